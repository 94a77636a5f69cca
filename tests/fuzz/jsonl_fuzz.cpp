#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/data/example.h"

// The first byte chooses format and options, the rest is the file (it may be gzip or zstd).
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace fovea::data;
  fovea::set_log_level(fovea::LogLevel::kError);
  if (size == 0) return 0;
  DataOptions options;
  constexpr Format kFormats[] = {Format::kAuto, Format::kJsonl,    Format::kJsonl, Format::kTsv,
                                 Format::kCsv,  Format::kLabelled, Format::kText,  Format::kAuto};
  options.format = kFormats[data[0] & 7];
  options.require_label = (data[0] & 8) == 0;
  options.encoding_errors = static_cast<EncodingErrors>((data[0] >> 4) % 3);
  if (data[0] & 128) {
    options.text_fields = {"title", "text"};
    options.columns = {"label", "title", "id", "text"};
  }
  options.max_line_bytes = 1 << 20;
  const std::string_view content(reinterpret_cast<const char*>(data) + 1, size - 1);
  try {
    const auto reader = examples_from_memory(content, "fuzz", options);
    Example example;
    for (int faults = 0; faults < 8;) {
      try {
        while (reader->next(example)) {
        }
        break;
      } catch (const fovea::InputError&) {
        ++faults;
      }
    }
  } catch (const fovea::InputError&) {
  }
  return 0;
}
