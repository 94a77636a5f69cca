// Window attention by the installed library against the definition, on a few tokens.
#include <cmath>
#include <cstdio>
#include <vector>

#include "fovea/attention/attention.h"
#include "fovea/pattern/pattern.h"

int main() {
  constexpr int64_t kTokens = 100, kDim = 8;
  std::vector<float> q(kTokens * kDim), k(q.size()), v(q.size()), o(q.size()), lse(kTokens);
  for (size_t i = 0; i < q.size(); ++i) {
    q[i] = std::sin(0.7f * i);
    k[i] = std::cos(0.3f * i);
    v[i] = std::sin(0.1f * i);
  }
  const auto view = [&](std::vector<float>& values, int64_t dim) {
    return fovea::contiguous_view(values.data(), fovea::DType::kF32, 1, 1, kTokens, dim);
  };

  const fovea::Pattern pattern = fovea::Pattern::parse("window(3)|global(1)");
  const fovea::PlanSet plans = fovea::PlanSet::build(pattern, 1, 1, kTokens, kTokens);
  fovea::AttentionProblem problem;
  problem.q = view(q, kDim);
  problem.k = view(k, kDim);
  problem.v = view(v, kDim);
  problem.plans = &plans;
  const fovea::Status status = fovea::attention_forward(problem, {view(o, kDim), view(lse, 1)});
  if (!status.ok()) {
    std::fprintf(stderr, "%s\n", status.message().c_str());
    return 1;
  }

  const double scale = 1 / std::sqrt(double{kDim});
  double worst = 0;
  for (int64_t i = 0; i < kTokens; ++i) {
    std::vector<double> expected(kDim, 0.0);
    double sum = 0;
    for (int64_t j = 0; j < kTokens; ++j) {
      if (std::abs(i - j) > 3 && i != 0 && j != 0) continue;
      double score = 0;
      for (int64_t d = 0; d < kDim; ++d) score += double{q[i * kDim + d]} * k[j * kDim + d];
      const double weight = std::exp(score * scale);
      sum += weight;
      for (int64_t d = 0; d < kDim; ++d) expected[d] += weight * v[j * kDim + d];
    }
    for (int64_t d = 0; d < kDim; ++d) {
      worst = std::fmax(worst, std::fabs(expected[d] / sum - o[i * kDim + d]));
    }
  }
  std::printf("engine %s, largest difference %.2e\n",
              fovea::engine_name(fovea::DType::kF32).c_str(), worst);
  return worst < 1e-5 ? 0 : 1;
}
