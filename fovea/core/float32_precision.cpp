#include "fovea/core/float32_precision.h"

#include <string>

#include "fovea/core/status.h"

namespace fovea {
namespace {

constexpr const char* kNames[] = {"highest", "high", "medium"};

}  // namespace

const char* name_of(Float32Precision precision) { return kNames[static_cast<int>(precision)]; }

Float32Precision parse_float32_precision(std::string_view name) {
  for (int i = 0; i < 3; ++i) {
    if (name == kNames[i]) return static_cast<Float32Precision>(i);
  }
  throw InputError("float32 precision \"" + std::string(name) +
                   "\" is unknown; expected highest, high or medium");
}

}  // namespace fovea
