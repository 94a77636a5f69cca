#include "fovea/reference/linear_memory_reference.h"

#include <cmath>

namespace fovea::reference {
namespace {

double feature(FeatureMap map, double x) {
  if (map == FeatureMap::kEluPlusOne) return x > 0 ? x + 1 : std::exp(x);
  if (map == FeatureMap::kRelu) return x > 0 ? x : 0;
  return x;
}

double slope(FeatureMap map, double x) {
  if (map == FeatureMap::kEluPlusOne) return x > 0 ? 1 : std::exp(x);
  if (map == FeatureMap::kRelu) return x > 0 ? 1 : 0;
  return 1;
}

/// Calls body(row of i, row of j) for every pair that the memory holds.
template <typename Body>
void for_each_pair(const MemoryProblem& p, const Body& body) {
  std::vector<int64_t> bounds = p.cu_seqlens;
  if (bounds.empty()) bounds = {0, p.len};
  for (int64_t bh = 0; bh < p.batch * p.heads; ++bh) {
    for (size_t n = 0; n + 1 < bounds.size(); ++n) {
      for (int64_t i = bounds[n]; i < bounds[n + 1]; ++i) {
        for (int64_t j = bounds[n]; j < bounds[n + 1]; ++j) {
          const bool before = p.left > 0 && j <= i - p.left;
          const bool after = p.right > 0 && j >= i + p.right;
          if (before || after) body(bh * p.len + i, bh * p.len + j);
        }
      }
    }
  }
}

/// w_ij
double weight(const MemoryProblem& p, int64_t i, int64_t j) {
  double dot = 0;
  for (int64_t d = 0; d < p.head_dim; ++d) {
    dot += feature(p.map, p.q[i * p.head_dim + d]) * feature(p.map, p.k[j * p.head_dim + d]);
  }
  return std::exp(p.gain[i]) * dot;
}

}  // namespace

MemoryForward linear_memory_forward(const MemoryProblem& p) {
  MemoryForward f{std::vector<double>(p.o.size()), std::vector<double>(p.lse.size())};
  for (size_t i = 0; i < f.lse.size(); ++i) f.lse[i] = std::exp(p.lse[i]);
  for_each_pair(p, [&](int64_t i, int64_t j) { f.lse[i] += weight(p, i, j); });
  for (double& x : f.lse) x = std::log(x);
  for (size_t i = 0; i < f.o.size(); ++i) {
    const size_t row = i / static_cast<size_t>(p.value_dim);
    if (p.lse[row] > -INFINITY) f.o[i] = std::exp(p.lse[row] - f.lse[row]) * p.o[i];
  }
  for_each_pair(p, [&](int64_t i, int64_t j) {
    const double share = weight(p, i, j) * std::exp(-f.lse[i]);
    for (int64_t c = 0; c < p.value_dim; ++c) {
      f.o[i * p.value_dim + c] += share * p.v[j * p.value_dim + c];
    }
  });
  return f;
}

MemoryBackward linear_memory_backward(const MemoryProblem& p, const std::vector<double>& d_o,
                                      const std::vector<double>& d_lse) {
  const MemoryForward f = linear_memory_forward(p);
  MemoryBackward g;
  for (auto [x, like] : {std::pair{&g.d_q, &p.q},
                         {&g.d_k, &p.k},
                         {&g.d_v, &p.v},
                         {&g.d_gain, &p.gain},
                         {&g.d_o, &p.o},
                         {&g.d_lse, &p.lse}}) {
    x->assign(like->size(), 0.0);
  }
  // What a share of the weights gets beside d_o·v: less what the others lose.
  std::vector<double> rest(p.lse.size());
  const auto dot = [&](const std::vector<double>& x, int64_t i, const std::vector<double>& y,
                       int64_t j) {
    double sum = 0;
    for (int64_t c = 0; c < p.value_dim; ++c) {
      sum += x[i * p.value_dim + c] * y[j * p.value_dim + c];
    }
    return sum;
  };
  for (int64_t i = 0; i < static_cast<int64_t>(rest.size()); ++i) {
    rest[i] = (d_lse.empty() ? 0 : d_lse[i]) - dot(d_o, i, f.o, i);
    if (p.lse[i] == -INFINITY) continue;
    const double share = std::exp(p.lse[i] - f.lse[i]);
    g.d_lse[i] = share * (dot(d_o, i, p.o, i) + rest[i]);
    for (int64_t c = 0; c < p.value_dim; ++c) {
      g.d_o[i * p.value_dim + c] = share * d_o[i * p.value_dim + c];
    }
  }
  for_each_pair(p, [&](int64_t i, int64_t j) {
    const double scale = std::exp(p.gain[i] - f.lse[i]);
    const double share = weight(p, i, j) * std::exp(-f.lse[i]);
    const double d_log = dot(d_o, i, p.v, j) + rest[i];
    g.d_gain[i] += share * d_log;
    for (int64_t d = 0; d < p.head_dim; ++d) {
      const double x = p.q[i * p.head_dim + d], y = p.k[j * p.head_dim + d];
      g.d_q[i * p.head_dim + d] += scale * d_log * feature(p.map, y) * slope(p.map, x);
      g.d_k[j * p.head_dim + d] += scale * d_log * feature(p.map, x) * slope(p.map, y);
    }
    for (int64_t c = 0; c < p.value_dim; ++c) {
      g.d_v[j * p.value_dim + c] += share * d_o[i * p.value_dim + c];
    }
  });
  return g;
}

}  // namespace fovea::reference
