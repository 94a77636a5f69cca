#include "fovea/nn/attention.h"

#include <cmath>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/zeros.h>

#include "fovea/core/status.h"
#include "fovea/nn/block_attention.h"
#include "fovea/nn/block_steps.h"
#include "fovea/nn/hmatrix.h"
#include "fovea/nn/linear.h"
#include "fovea/nn/random.h"
#include "fovea/ops/linear_attention.h"
#include "fovea/ops/rotary.h"
#include "fovea/pattern/causality.h"

namespace fovea::nn {
namespace {

void require(bool condition, const std::string& expected, const std::string& found) {
  if (!condition) throw InputError("Attention: expected " + expected + ", found " + found);
}

constexpr double kFirstCosineScale = 10, kLargestCosineScale = 100;
constexpr double kLeakySlope = 0.2;

void check_scores(const AttentionOptions& o) {
  const bool changed = o.scores() != Scores::kDot || o.position_bias() != PositionBias::kNone ||
                       o.softcap() != 0 || o.cosine() || o.sinks();
  require(!changed || o.mechanism() == Mechanism::kSoftmax,
          std::string("no scores, position_bias, softcap, cosine or sinks with ") +
              name_of(o.mechanism()) + " attention",
          "one of them");
  require(o.scores() == Scores::kDot || !(o.rotary() || o.cosine()),
          "neither rotary positions nor cosine with additive scores", "one of them");
  require(o.scores() == Scores::kDot || o.memory().none(), "no memory with additive scores", "one");
  require(!o.cross() || o.position_bias() == PositionBias::kNone,
          "a position_bias in self-attention only", "cross-attention");
  require(o.softcap() >= 0 && std::isfinite(o.softcap()), "softcap of at least 0",
          std::to_string(o.softcap()));
  if (o.position_bias() != PositionBias::kT5) return;
  require(o.bias_buckets() >= 4 && o.bias_buckets() % 4 == 0, "bias_buckets a multiple of 4",
          std::to_string(o.bias_buckets()));
  require(o.bias_max_distance() > o.bias_buckets() / 4, "bias_max_distance above bias_buckets / 4",
          std::to_string(o.bias_max_distance()) + " and " + std::to_string(o.bias_buckets()));
}

void complete(AttentionOptions& o) {
  if (o.kv_heads() == 0) o.kv_heads(o.heads());
  if (o.memory_dim() == 0) o.memory_dim(o.model_dim());
  const std::string heads = std::to_string(o.heads());
  require(o.heads() > 0 && o.model_dim() > 0 && o.model_dim() % o.heads() == 0,
          "heads that divide model_dim", heads + " and " + std::to_string(o.model_dim()));
  const int64_t head_dim = o.model_dim() / o.heads();
  require(head_dim % 8 == 0 && head_dim <= 256, "model_dim / heads a multiple of 8 up to 256",
          std::to_string(head_dim));
  require(o.kv_heads() > 0 && o.heads() % o.kv_heads() == 0, "kv_heads that divide heads",
          std::to_string(o.kv_heads()) + " and " + heads);
  require(o.dropout() >= 0 && o.dropout() < 1, "dropout in [0, 1)", std::to_string(o.dropout()));
  if (o.mechanism() != Mechanism::kSoftmax) {
    require(o.pattern() == Pattern() || o.pattern() == Pattern::parse("causal"),
            std::string("pattern full or causal with ") + name_of(o.mechanism()) + " attention",
            o.pattern().to_string());
    require(!o.cross() || o.pattern() == Pattern(), "pattern full in linear cross-attention",
            o.pattern().to_string());
  }
  std::vector<int64_t> numbers = o.numbers();
  const std::string expected = complete_numbers(o.mechanism(), &numbers);
  if (!expected.empty()) throw InputError("Attention: expected " + expected);
  o.numbers(numbers);
  if (is_recurrent(o.mechanism()) || is_over_blocks(o.mechanism())) {
    require(!o.cross(), std::string("self-attention with ") + name_of(o.mechanism()),
            "cross-attention");
  }
  if (is_recurrent(o.mechanism())) {
    require(o.kv_heads() == o.heads(),
            std::string("as many kv_heads as heads with ") + name_of(o.mechanism()),
            std::to_string(o.kv_heads()) + " and " + heads);
  }
  require(!(o.cross() && o.rotary()), "rotary positions in self-attention only",
          "rotary cross-attention");
  require(o.memory().none() || (o.mechanism() == Mechanism::kSoftmax && !o.cross()),
          "a memory in softmax self-attention only", "another mechanism or cross-attention");
  check_scores(o);
}

/// Linear attention of packed documents; key heads are repeated for their group of query heads.
at::Tensor linear(const at::Tensor& q, at::Tensor k, at::Tensor v, const at::Tensor& cu_seqlens_q,
                  const at::Tensor& cu_seqlens_k, const Pattern& pattern,
                  AttentionState* state = nullptr) {
  ops::LinearAttentionArguments arguments;
  arguments.causal = pattern != Pattern();
  if (const int64_t group = q.size(1) / k.size(1); group > 1) {
    k = k.repeat_interleave(group, 1);
    v = v.repeat_interleave(group, 1);
  }
  return attend_linear(q, k, v, cu_seqlens_q, cu_seqlens_k, arguments, state);
}

}  // namespace

AttentionImpl::AttentionImpl(const AttentionOptions& options_) : options(options_) {
  complete(options);
  const int64_t dim = options.model_dim();
  head_dim_ = dim / options.heads();
  pattern_text_ = options.pattern().to_string();
  if (is_recurrent(options.mechanism())) {
    mixer_ = register_module("mixer", LinearMixer(LinearMixerOptions()
                                                      .mechanism(options.mechanism())
                                                      .model_dim(dim)
                                                      .heads(options.heads())
                                                      .causal(options.pattern() != Pattern())
                                                      .rotary(options.rotary())
                                                      .rope_theta(options.rope_theta())));
    return;
  }
  const int64_t kv_features = 2 * options.kv_heads() * head_dim_;
  if (options.cross()) {
    query_ = register_module("query", make_linear(dim, dim, options.bias()));
    key_value_ = register_module("key_value",
                                 make_linear(options.memory_dim(), kv_features, options.bias()));
  } else {
    qkv_ = register_module("qkv", make_linear(dim, dim + kv_features, options.bias()));
  }
  output_ = register_module("output", make_linear(dim, dim, options.bias()));
  if (!options.memory().none()) {
    memory_ = register_module("memory", WindowMemory(WindowMemoryOptions()
                                                         .memory(options.memory())
                                                         .window(options.pattern())
                                                         .heads(options.heads())
                                                         .kv_heads(options.kv_heads())
                                                         .head_dim(head_dim_)));
  }
  if (const int64_t gates = gates_of(options.mechanism()); gates > 0) {
    gate_ = register_module("gate", make_linear(dim, gates * options.heads(), options.bias()));
  }
  register_score_parameters();
}

void AttentionImpl::register_score_parameters() {
  const int64_t heads = options.heads();
  if (options.position_bias() == PositionBias::kAlibi) slopes_ = alibi_slopes(heads);
  if (options.position_bias() == PositionBias::kT5) {
    buckets_ = t5_buckets(options.bias_buckets(), options.bias_max_distance());
    position_bias_ =
        register_parameter("position_bias", at::zeros({options.bias_buckets(), heads}));
  }
  if (options.cosine()) {
    log_scale_ = register_parameter("log_scale", at::full({heads}, std::log(kFirstCosineScale)));
  }
  if (options.sinks()) sinks_ = register_parameter("sinks", at::zeros({heads}));
  const auto vectors = [&](const char* name, int64_t count) {
    const double deviation = 1 / std::sqrt(static_cast<double>(head_dim_));
    const at::Tensor vector = at::empty({count, head_dim_}, at::TensorOptions().dtype(at::kFloat));
    return register_parameter(name, vector.normal_(0, deviation));
  };
  if (options.scores() == Scores::kAdditive) score_weight_ = vectors("score_weight", heads);
  if (options.scores() == Scores::kLeaky) {
    query_vector_ = vectors("query_vector", heads);
    key_vector_ = vectors("key_vector", options.kv_heads());
  }
}

ops::AttentionArguments AttentionImpl::arguments() const {
  ops::AttentionArguments result;
  if (is_training() && options.dropout() > 0) {
    result.dropout_p = options.dropout();
    result.dropout_seed = draw_seed();
  }
  result.additive = score_weight_;
  if (options.scores() == Scores::kLeaky) {
    result.scale = 1;
    result.negative_slope = kLeakySlope;
  }
  result.softcap = options.softcap();
  result.cosine = options.cosine();
  if (options.cosine()) {
    result.scales = log_scale_.clamp_max(std::log(kLargestCosineScale)).exp();
  }
  result.sinks = sinks_;
  result.alibi_slopes = slopes_;
  if (buckets_.defined()) {
    result.distance_bias = position_bias_.index_select(0, buckets_).transpose(0, 1);
  }
  return result;
}

/// Of Scores::kLeaky: [x·a, 1, 0, …] of queries, [1, x·a, 0, …] of keys, 8 wide: products of the
/// two are the sums that it is about. Others as they are.
at::Tensor AttentionImpl::scored(const at::Tensor& x, const at::Tensor& vector,
                                 bool queries) const {
  if (options.scores() != Scores::kLeaky) return x;
  const at::Tensor sum = (x * vector).sum(-1, /*keepdim=*/true), one = at::ones_like(sum);
  const at::Tensor zeros = at::zeros({x.size(0), x.size(1), 6}, sum.options());
  return at::cat({queries ? sum : one, queries ? one : sum, zeros}, -1);
}

at::Tensor AttentionImpl::project(const at::Tensor& o, int64_t tokens) {
  return output_(o.reshape({tokens, options.model_dim()}));
}

bool AttentionImpl::incremental() const {
  const bool causal =
      mixer_ ? mixer_->options.causal() : !options.cross() && is_causal(options.pattern());
  const LayerMemory& memory = options.memory();
  return causal && (memory.none() || memory.causal) && !depends_on_length(options.pattern());
}

at::Tensor AttentionImpl::softmax(const at::Tensor& qkv, const Packing& packing,
                                  AttentionState* state) {
  const int64_t heads = options.heads(), kv_heads = options.kv_heads();
  const ops::AttentionArguments changes = arguments();
  const int64_t window = trailing_window(options.pattern()).value_or(0);
  const auto parts = qkv.split_with_sizes({heads, kv_heads, kv_heads}, 1);
  const at::Tensor q_rows = scored(parts[0], query_vector_, true);
  const at::Tensor k_rows = scored(parts[1], key_vector_, false);
  if (state) state->append(k_rows, parts[2], window);
  if (state && state->tokens > 0) {
    return std::get<0>(attend_cached(q_rows, *state, window, options.pattern(), changes));
  }
  return std::get<0>(
      options.scores() == Scores::kLeaky
          ? ops::attention_varlen(q_rows, k_rows, parts[2], packing.cu_seqlens, packing.cu_seqlens,
                                  pattern_text_, changes)
          : ops::attention_qkv(qkv, heads, packing.cu_seqlens, pattern_text_, changes));
}

at::Tensor AttentionImpl::over_blocks(const at::Tensor& x, const at::Tensor& qkv,
                                      const Packing& packing, AttentionState* state) {
  const int64_t kv_heads = options.kv_heads();
  const auto parts = qkv.split_with_sizes({options.heads(), kv_heads, kv_heads}, 1);
  const std::vector<int64_t>& n = options.numbers();
  const bool causal = options.pattern() != Pattern();
  at::Tensor gates;
  if (gate_) gates = at::sigmoid(gate_(x)).view({packing.tokens, options.heads(), -1});
  if (state) {
    options.mechanism() == Mechanism::kHMatrix ? append_pools(parts[1], parts[2], state)
                                               : append_blocks(parts[1], parts[2], n[0], state);
    if (state->tokens > 0) return block_step(parts[0], gates, *state);
  }
  switch (options.mechanism()) {
    case Mechanism::kHMatrix:
      return hmatrix(parts[0], parts[1], parts[2], packing, n[0], causal, arguments());
    case Mechanism::kNsa:
      return nsa(parts[0], parts[1], parts[2], gates, packing, n[0], n[1], n[2], causal,
                 arguments());
    case Mechanism::kSegmentEncoder:
      return segment_encoder(parts[0], parts[1], parts[2], gates, packing, n[0], causal,
                             arguments());
    default:
      return moba(parts[0], parts[1], parts[2], packing, n[0], n[1], causal, arguments());
  }
}

at::Tensor AttentionImpl::block_step(const at::Tensor& q, const at::Tensor& gates,
                                     const AttentionState& state) {
  const std::vector<int64_t>& n = options.numbers();
  switch (options.mechanism()) {
    case Mechanism::kHMatrix:
      return hmatrix_step(q, state, n[0]);
    case Mechanism::kNsa:
      return nsa_step(q, gates, state, n[0], n[1], n[2]);
    case Mechanism::kSegmentEncoder:
      return segment_encoder_step(q, gates, state, n[0]);
    default:
      return moba_step(q, state, n[0], n[1]);
  }
}

at::Tensor AttentionImpl::forward(const at::Tensor& x, const Packing& packing,
                                  AttentionState* state) {
  TORCH_CHECK(!options.cross(), "Attention: cross-attention needs a memory");
  TORCH_CHECK(x.dim() == 2 && x.size(0) == packing.tokens, "Attention: expected x [",
              packing.tokens, ", ", options.model_dim(), "], got ", x.sizes());
  if (state) {
    TORCH_CHECK(incremental(), "Attention: \"", pattern_text_, "\" has no incremental form");
    TORCH_CHECK(packing.max_length == state->tokens + packing.tokens &&
                    (packing.tokens == 1 || state->tokens == 0),
                "Attention: expected the beginning of a document or its next token, got ",
                packing.tokens, " rows after ", state->tokens);
  }
  const at::Tensor y = mixer_ ? mixer_(x, packing, state) : self(x, packing, state);
  if (state) state->tokens += packing.tokens;
  return y;
}

at::Tensor AttentionImpl::self(const at::Tensor& x, const Packing& packing, AttentionState* state) {
  const int64_t heads = options.heads(), kv_heads = options.kv_heads();
  at::Tensor qkv = qkv_(x).view({packing.tokens, heads + 2 * kv_heads, head_dim_});
  if (options.rotary()) {
    const at::Tensor table = ops::rotary_table(packing.max_length, head_dim_, options.rope_theta());
    qkv = ops::rotary(qkv, table, packing.positions, heads + kv_heads);
  }
  if (memory_) return project(memory_(qkv, packing, arguments(), state), packing.tokens);
  if (options.mechanism() == Mechanism::kLinear) {
    const auto parts = qkv.split_with_sizes({heads, kv_heads, kv_heads}, 1);
    return project(linear(parts[0], parts[1], parts[2], packing.cu_seqlens, packing.cu_seqlens,
                          options.pattern(), state),
                   packing.tokens);
  }
  if (is_over_blocks(options.mechanism())) {
    return project(over_blocks(x, qkv, packing, state), packing.tokens);
  }
  return project(softmax(qkv, packing, state), packing.tokens);
}

at::Tensor AttentionImpl::forward_cross(const at::Tensor& x, const Packing& packing,
                                        const at::Tensor& memory, const Packing& memory_packing) {
  TORCH_CHECK(options.cross(), "Attention: self-attention takes no memory");
  TORCH_CHECK(packing.documents == memory_packing.documents,
              "Attention: expected a memory document for each of ", packing.documents,
              " documents, got ", memory_packing.documents);
  const int64_t kv_heads = options.kv_heads();
  const at::Tensor q = query_(x).view({packing.tokens, options.heads(), head_dim_});
  const at::Tensor kv = key_value_(memory).view({memory_packing.tokens, 2 * kv_heads, head_dim_});
  const auto parts = kv.split(kv_heads, 1);
  if (options.mechanism() == Mechanism::kLinear) {
    return project(linear(q, parts[0], parts[1], packing.cu_seqlens, memory_packing.cu_seqlens,
                          options.pattern()),
                   packing.tokens);
  }
  const at::Tensor o = std::get<0>(ops::attention_varlen(
      scored(q, query_vector_, true), scored(parts[0], key_vector_, false), parts[1],
      packing.cu_seqlens, memory_packing.cu_seqlens, pattern_text_, arguments()));
  return project(o, packing.tokens);
}

at::Tensor AttentionImpl::forward_dense(const at::Tensor& x) {
  TORCH_CHECK(x.dim() == 3, "Attention: expected x [B, S, E], got ", x.sizes());
  const Packing packing = Packing::dense(x.size(0), x.size(1));
  return forward(x.reshape({packing.tokens, x.size(2)}), packing).view(x.sizes());
}

}  // namespace fovea::nn
