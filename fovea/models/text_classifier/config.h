#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fovea::models {

/// Name and shape of one tensor of a model file.
struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

/// All that decides the tensors and the arithmetic of a TextClassifier: the model folder's
/// config.json. Contains no torch, so a program can read it without loading torch.
struct TextClassifierConfig {
  static constexpr int64_t kFormatVersion = 1;
  static constexpr std::string_view kModelType = "fovea_text_classifier";

  int64_t vocab_size = 0;           ///< [1, 2^24]
  std::vector<std::string> labels;  ///< distinct, at least 2; label i is logit i
  int64_t layers = 4;               ///< [1, 1024]
  int64_t model_dim = 256;          ///< heads x head_dim, head_dim a multiple of 8 up to 256
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
  std::string pooling = "mean";      ///< mean, max, first, last, attention
  double dropout = 0.1;              ///< after attention and feed-forward, before the residual sum
  double attention_dropout = 0;      ///< of softmax attention's weights
  double embedding_dropout = 0;      ///< of the elements of embeddings
  double token_dropout = 0;          ///< of whole tokens' embeddings

  /// Throws InputError "PLACE: field "heads": expected …, found …" for the first unmet condition.
  void validate(std::string_view place = "config") const;

  /// Reads config.json's text; `place` is the file's name for messages. Strict: every field must be
  /// there, an unknown one is an error that suggests the nearest, values are validated, and a
  /// format_version newer than this program's is refused. Throws InputError.
  static TextClassifierConfig from_json(std::string_view text, std::string_view place);

  /// config.json's text, indented, with model_type and format_version; from_json reads it back.
  std::string to_json() const;

  /// The tensors of such a model in the order of its named_parameters(). A loader compares them
  /// with a file's header before it allocates anything.
  std::vector<TensorSpec> tensor_specs() const;

  /// Numbers in tensor_specs().
  int64_t parameter_count() const;

  friend bool operator==(const TextClassifierConfig&, const TextClassifierConfig&) = default;
};

}  // namespace fovea::models
