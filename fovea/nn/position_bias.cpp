#include "fovea/nn/position_bias.h"

#include <bit>
#include <cmath>

#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/where.h>

#include "fovea/nn/choice.h"

namespace fovea::nn {

PositionBias parse_position_bias(const std::string& name) {
  return parse_choice<PositionBias>(
      "position bias", name,
      {{"none", PositionBias::kNone}, {"alibi", PositionBias::kAlibi}, {"t5", PositionBias::kT5}});
}

Scores parse_scores(const std::string& name) {
  return parse_choice<Scores>(
      "scores", name,
      {{"dot", Scores::kDot}, {"additive", Scores::kAdditive}, {"leaky", Scores::kLeaky}});
}

at::Tensor alibi_slopes(int64_t heads) {
  const at::Tensor slopes = at::empty({heads}, at::kFloat);
  float* out = slopes.mutable_data_ptr<float>();
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  const auto slope = [](int64_t i, int64_t of) {
    return static_cast<float>(std::exp2(-8.0 * static_cast<double>(i) / static_cast<double>(of)));
  };
  for (int64_t h = 0; h < heads; ++h) {
    out[h] = h < power ? slope(h + 1, power) : slope(2 * (h - power) + 1, 2 * power);
  }
  return slopes;
}

at::Tensor t5_buckets(int64_t buckets, int64_t max_distance) {
  const int64_t side = buckets / 2, exact = side / 2;
  const at::Tensor distance = at::arange(-max_distance, max_distance + 1, at::kLong);
  const at::Tensor far = distance.abs();
  const double growth = std::log(static_cast<double>(max_distance) / static_cast<double>(exact));
  const at::Tensor ratio = far.clamp_min(1).to(at::kFloat).div(exact).log().div(growth);
  const at::Tensor grown = ratio.mul(side - exact).to(at::kLong).add(exact).clamp_max(side - 1);
  return at::where(far < exact, far, grown).add(distance.gt(0).to(at::kLong), side);
}

}  // namespace fovea::nn
