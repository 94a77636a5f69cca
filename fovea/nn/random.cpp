#include "fovea/nn/random.h"

#include <cmath>
#include <mutex>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/add.h>
#include <c10/core/GradMode.h>

#include "fovea/ops/dropout.h"

namespace fovea::nn {

int64_t draw_seed() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  return static_cast<int64_t>(at::check_generator<at::CPUGeneratorImpl>(generator)->random64() >>
                              1);
}

at::Tensor apply_dropout(const at::Tensor& x, double p, bool training) {
  return training && p > 0 ? ops::dropout(x, p, draw_seed()) : x;
}

at::Tensor add_dropout(const at::Tensor& residual, const at::Tensor& x, double p, bool training) {
  if (!training || p == 0) return at::add(residual, x);
  // Under autocast a sublayer's result may be of a lower type than the stream it is added to.
  return ops::dropout(x.to(residual.scalar_type()), p, draw_seed(), residual);
}

void init_xavier_(at::Tensor weight) {
  const at::NoGradGuard no_grad;
  const double bound = std::sqrt(6.0 / static_cast<double>(weight.size(0) + weight.size(1)));
  weight.uniform_(-bound, bound);
}

void init_truncated_normal_(at::Tensor weight, double deviation) {
  const at::NoGradGuard no_grad;
  // Inverse of the normal's distribution function at a uniform between its values at -2 and 2.
  const double edge = std::erf(2 / std::sqrt(2.0));
  weight.uniform_(-edge, edge).erfinv_().mul_(std::sqrt(2.0) * deviation);
}

}  // namespace fovea::nn
