#include <algorithm>
#include <cmath>
#include <limits>

#include "fovea/attention/conditions.h"
#include "fovea/attention/decode.h"
#include "fovea/attention/launch.h"

namespace fovea {
namespace {

constexpr int kLevels = 127;  // of each sign

template <typename S>
float quantise_row(const S* x, int64_t dim, int8_t* out) {
  float most = 0;
  bool finite = true;
  for (int64_t i = 0; i < dim; ++i) {
    const float size = std::fabs(static_cast<float>(x[i]));
    finite &= std::isfinite(size);
    most = std::max(most, size);
  }
  if (!finite || most == 0) {
    std::fill_n(out, dim, int8_t{0});
    return finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  }
  const double inverse = kLevels / double{most};  // of the smallest numbers beyond f32
  for (int64_t i = 0; i < dim; ++i) {
    out[i] = static_cast<int8_t>(std::lrint(static_cast<float>(x[i]) * inverse));
  }
  return most / kLevels;
}

template <typename S>
void quantise(const TensorView& x, const TensorView& rows, const TensorView& scales) {
  const int64_t heads = x.shape[1], dim = x.shape[3];
  const double work = 4.0 * static_cast<double>(x.shape[0] * heads * x.shape[2] * dim);
  run_tasks(x.shape[0] * heads, work, [&](int64_t task) {
    const int64_t b = task / heads, h = task % heads;
    for (int64_t s = 0; s < x.shape[2]; ++s) {
      *scales.row<float>(b, h, s) =
          quantise_row(x.row<const S>(b, h, s), dim, rows.row<int8_t>(b, h, s));
    }
  });
}

}  // namespace

Status quantise_rows(const TensorView& x, const TensorView& rows, const TensorView& scales) {
  Conditions c("quantise_rows");
  c.expect_operand("x", x);
  if (x.dtype == DType::kI8 || x.dtype == DType::kF64) {
    c.add("x of f32, bf16 or f16", name_of(x.dtype));
  }
  c.expect_data("rows", rows);
  c.expect_type("rows", rows, DType::kI8);
  c.expect_shape("rows", rows, "as x", 4, x.shape[0], x.shape[1], x.shape[2], x.shape[3]);
  c.expect_data("scales", scales);
  c.expect_type("scales", scales, DType::kF32);
  c.expect_shape("scales", scales, "as the rows of x", 3, x.shape[0], x.shape[1], x.shape[2], 1);
  if (const auto unmet = c.take(); !unmet.empty()) return invalid(unmet);
  if (x.dtype == DType::kF32) quantise<float>(x, rows, scales);
  if (x.dtype == DType::kBF16) quantise<BFloat16>(x, rows, scales);
  if (x.dtype == DType::kF16) quantise<Float16>(x, rows, scales);
  return {};
}

}  // namespace fovea
