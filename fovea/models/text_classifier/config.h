#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fovea/models/encoder_config.h"

namespace fovea::models {

/// All that decides the tensors and the arithmetic of a TextClassifier: the model folder's
/// config.json.
struct TextClassifierConfig : EncoderConfig {
  /// 1 had no fields of scores, 2 no summary tokens, 3 only dot products.
  static constexpr int64_t kFormatVersion = 4;
  static constexpr std::string_view kModelType = "fovea_text_classifier";

  std::vector<std::string> labels;  ///< distinct, at least 2; label i is logit i
  std::string pooling = "mean";     ///< mean, max, first, last, attention
  int64_t summary_tokens = 0;       ///< learned tokens before each document, [0, 4096]

  /// Throws InputError "PLACE: field "heads": expected …, found …" for the first unmet condition.
  void validate(std::string_view place = "config") const;

  /// Reads config.json's text as read_config() does, and validates it. Throws InputError.
  static TextClassifierConfig from_json(std::string_view text, std::string_view place);

  /// config.json's text; from_json reads it back.
  std::string to_json() const;

  /// The tensors of such a model in the order of its named_parameters(). A loader compares them
  /// with a file's header before it allocates anything.
  std::vector<TensorSpec> tensor_specs() const;

  /// Numbers in tensor_specs().
  int64_t parameter_count() const { return models::parameter_count(tensor_specs()); }

  friend bool operator==(const TextClassifierConfig&, const TextClassifierConfig&) = default;

 private:
  std::vector<ConfigField> fields();
};

}  // namespace fovea::models
