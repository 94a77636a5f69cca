#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "fovea/core/status.h"
#include "fovea/io/safetensors.h"

// Any bytes: a file that is accepted has all its tensors inside the bytes given.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const fovea::io::SafetensorsFile file({reinterpret_cast<const std::byte*>(data), size}, "fuzz");
    uint8_t sum = 0;
    int64_t bytes = 0;
    for (const fovea::io::StTensor& tensor : file.tensors()) {
      for (int64_t i = 0; i < tensor.bytes; ++i) sum ^= static_cast<uint8_t>(tensor.data[i]);
      bytes += tensor.bytes;
      if (file.find(tensor.name) != &tensor) std::abort();
    }
    if (bytes > static_cast<int64_t>(size) || (sum != 0 && bytes == 0)) std::abort();
  } catch (const fovea::InputError&) {
  }
  return 0;
}
