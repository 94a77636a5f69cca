#include "fovea/nn/embedding.h"

#include <cmath>

#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include "fovea/nn/choice.h"
#include "fovea/nn/random.h"

namespace fovea::nn {
namespace {

constexpr double kDeviation = 0.02;

torch::nn::Embedding make_table(int64_t rows, int64_t dim) {
  torch::nn::Embedding table(torch::nn::EmbeddingOptions(rows, dim)._weight(
      at::empty({rows, dim}, at::TensorOptions().dtype(at::kFloat))));
  init_truncated_normal_(table->weight, kDeviation);
  return table;
}

/// Rows of sines and cosines of the positions, [T, E]; their root mean square is kDeviation.
at::Tensor sinusoids(const at::Tensor& positions, int64_t dim) {
  const at::Tensor result =
      at::empty({positions.size(0), dim}, at::TensorOptions().dtype(at::kFloat));
  const int64_t* position = positions.const_data_ptr<int64_t>();
  float* row = result.mutable_data_ptr<float>();
  const double size = kDeviation * std::sqrt(2.0);
  std::vector<double> frequencies((dim + 1) / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
  }
  for (int64_t t = 0; t < positions.size(0); ++t, row += dim) {
    for (int64_t i = 0; i < dim; ++i) {
      const double angle = static_cast<double>(position[t]) * frequencies[i / 2];
      row[i] = static_cast<float>(size * (i % 2 == 0 ? std::sin(angle) : std::cos(angle)));
    }
  }
  return result;
}

}  // namespace

Positions parse_positions(const std::string& name) {
  return parse_choice<Positions>("positions", name,
                                 {{"rotary", Positions::kRotary},
                                  {"learned", Positions::kLearned},
                                  {"sinusoidal", Positions::kSinusoidal},
                                  {"none", Positions::kNone}});
}

EmbeddingImpl::EmbeddingImpl(const EmbeddingOptions& options_) : options(options_) {
  tokens_ = register_module("tokens", make_table(options.vocab_size(), options.model_dim()));
  if (options.positions() == Positions::kLearned) {
    positions_ =
        register_module("positions", make_table(options.max_length(), options.model_dim()));
  }
  norm_ = register_module("norm", Norm(options.model_dim(), options.norm_type()));
}

at::Tensor EmbeddingImpl::forward(const at::Tensor& ids, const Packing& packing) {
  TORCH_CHECK(ids.dim() == 1 && ids.size(0) == packing.tokens && ids.scalar_type() == at::kLong,
              "Embedding: expected int64 ids [", packing.tokens, "], got ", ids.scalar_type(), " ",
              ids.sizes());
  at::Tensor x = tokens_(ids);
  if (is_training() && options.token_dropout() > 0) {
    // A dropped token keeps its position and loses its vector; the norm takes care of the scale.
    const double p = options.token_dropout();
    x = x * (apply_dropout(at::ones({ids.size(0), 1}), p, true) > 0);
  }
  switch (options.positions()) {
    case Positions::kLearned:
      TORCH_CHECK(packing.max_length <= options.max_length(),
                  "Embedding: expected documents of at most ", options.max_length(),
                  " tokens (learned positions), got one of ", packing.max_length);
      x = x + positions_(packing.positions);
      break;
    case Positions::kSinusoidal:
      x = x + sinusoids(packing.positions, options.model_dim());
      break;
    case Positions::kRotary:
    case Positions::kNone:
      break;
  }
  return apply_dropout(norm_(x), options.dropout(), is_training());
}

}  // namespace fovea::nn
