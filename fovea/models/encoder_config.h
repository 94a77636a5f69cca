#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/models/config_fields.h"

namespace fovea::models {

/// Name and shape of one tensor of a model file.
struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

/// Numbers in `specs`.
int64_t parameter_count(const std::vector<TensorSpec>& specs);

/// What the configs of all models over embeddings and an encoder have in common. Contains no torch,
/// so a program can read it without loading torch.
struct EncoderConfig {
  int64_t vocab_size = 0;   ///< [1, 2^24]
  int64_t layers = 4;       ///< [1, 1024]
  int64_t model_dim = 256;  ///< heads x head_dim, head_dim a multiple of 8 up to 256
  int64_t heads = 4;
  int64_t kv_heads = 4;              ///< divides heads
  int64_t ff_dim = 1024;             ///< inner features; of each half for swiglu and geglu
  std::string attention = "full";    ///< of the layers: parse_layers(), pattern/layer_attention.h
  std::string positions = "rotary";  ///< rotary, learned, sinusoidal, none
  double rope_theta = 10000;         ///< base of the rotary angles, > 1
  int64_t max_length = 8192;         ///< tokens of the longest document, [1, 2^27]
  std::string norm = "pre";          ///< pre, post
  std::string norm_type = "layer";   ///< layer (LayerNorm), rms (RMSNorm)
  std::string activation = "gelu";   ///< gelu, relu, swiglu, geglu
  double dropout = 0.1;              ///< after attention and feed-forward, before the residual sum
  double attention_dropout = 0;      ///< of softmax attention's weights
  double embedding_dropout = 0;      ///< of the elements of embeddings
  double token_dropout = 0;          ///< of whole tokens' embeddings
  // What attention does to its scores (docs/scores.md); none of it with linear layers.
  std::string scores = "dot";          ///< dot, additive (tanh inside), leaky (ReLU of a sum)
  std::string position_bias = "none";  ///< none, alibi, t5 (learned buckets of distances)
  int64_t bias_buckets = 32;           ///< of t5: a multiple of 4
  int64_t bias_max_distance = 128;     ///< of t5: what is farther shares a bucket
  double softcap = 0;                  ///< s = c tanh(s / c); 0: off
  bool cosine = false;                 ///< of unit vectors, a learned temperature for each head
  bool sinks = false;                  ///< a learned score for each head that gives nothing

  friend bool operator==(const EncoderConfig&, const EncoderConfig&) = default;

 protected:
  /// The members above, for read_config() and write_config().
  std::vector<ConfigField> encoder_fields();

  /// Throws InputError "PLACE: field "heads": expected …, found …" for the first unmet condition.
  void validate_encoder(std::string_view place) const;

  /// Tensors of embeddings and encoder in the order of their named_parameters().
  std::vector<TensorSpec> encoder_specs() const;
};

/// Adds NAME.weight [out, in] and NAME.bias [out].
void add_linear_specs(std::vector<TensorSpec>& specs, const std::string& name, int64_t in,
                      int64_t out);

}  // namespace fovea::models
