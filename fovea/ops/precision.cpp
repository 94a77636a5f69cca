#include "fovea/ops/precision.h"

#include <exception>
#include <optional>
#include <string>

#include <ATen/Context.h>

namespace fovea::ops {
namespace {

// The newer interface differs between versions of torch, or is not there; its types are deduced.

template <typename Backend, typename Op, typename Precision>
std::optional<Float32Precision> read(const at::Context& context,
                                     Precision (at::Context::*get)(Backend, Op) const) {
  const Precision precision = (context.*get)(Backend::MKLDNN, Op::MATMUL);
  if (precision == Precision::BF16) return Float32Precision::kMedium;
  if (precision == Precision::TF32) return Float32Precision::kHigh;
  if (precision == Precision::IEEE) return Float32Precision::kHighest;
  return std::nullopt;
}

[[maybe_unused]] std::optional<Float32Precision> read(
    const at::Context& context,
    std::string (at::Context::*get)(const std::string&, const std::string&) const) {
  const std::string precision = (context.*get)("mkldnn", "matmul");
  if (precision == "bf16") return Float32Precision::kMedium;
  if (precision == "tf32") return Float32Precision::kHigh;
  if (precision == "ieee") return Float32Precision::kHighest;
  return std::nullopt;
}

template <typename Context>
std::optional<Float32Precision> newer_setting(const Context& context) {
  if constexpr (requires { &Context::float32Precision; }) {
    return read(context, &Context::float32Precision);
  }
  return std::nullopt;
}

Float32Precision older_setting(const at::Context& context) {
  switch (context.float32MatmulPrecision()) {
    case at::Float32MatmulPrecision::HIGH:
      return Float32Precision::kHigh;
    case at::Float32MatmulPrecision::MEDIUM:
      return Float32Precision::kMedium;
    default:
      return Float32Precision::kHighest;
  }
}

}  // namespace

Float32Precision float32_precision() {
  try {
    const at::Context& context = at::globalContext();
    const auto newer = newer_setting(context);
    return newer ? *newer : older_setting(context);
  } catch (const std::exception&) {  // the settings contradict each other
    return Float32Precision::kHighest;
  }
}

}  // namespace fovea::ops
