#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/core/status.h"
#include "fovea/io/config.h"

// Any TOML: reading never crashes, and what was read comes back from its own dump.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    fovea::io::Config config = fovea::io::Config::parse(text, "fuzz");
    config.set("train.flag", std::string(text), "--train.flag");
    double lr = 0;
    std::string flag;
    std::vector<std::string> list;
    std::vector<double> numbers;
    config.read("a", lr);
    config.read("train.flag", flag);
    config.read("b.c", list);
    config.read("d", numbers);
    const std::string dump = config.dump();
    fovea::io::Config again = fovea::io::Config::parse(dump, "dump");
    again.read("a", lr);
    again.read("train.flag", flag);
    again.read("b.c", list);
    again.read("d", numbers);
    if (again.dump() != dump) std::abort();
    config.refuse_unknown();
  } catch (const fovea::InputError&) {
  }
  return 0;
}
