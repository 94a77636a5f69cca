#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "fovea/models/encoder_config.h"

namespace fovea::models {

/// All that decides the tensors and the arithmetic of a LanguageModel: the model folder's
/// config.json. Every layer's attention must be causal; max_length is at least 2.
struct LanguageModelConfig : EncoderConfig {
  /// 1 had no fields of scores, 2 only dot products; 3 is a classifier's alone.
  static constexpr int64_t kFormatVersion = 4;
  static constexpr std::string_view kModelType = "fovea_language_model";

  bool tie_embeddings = true;  ///< the output projection is the embedding table

  LanguageModelConfig() { attention = "causal"; }

  /// Throws InputError "PLACE: field "attention": expected …, found …" for the first unmet
  /// condition.
  void validate(std::string_view place = "config") const;

  /// Reads config.json's text as read_config() does, and validates it. Throws InputError.
  static LanguageModelConfig from_json(std::string_view text, std::string_view place);

  /// config.json's text; from_json reads it back.
  std::string to_json() const;

  /// The tensors of such a model in the order of its named_parameters().
  std::vector<TensorSpec> tensor_specs() const;

  /// Trainable numbers in tensor_specs(); a tied table counts once.
  int64_t parameter_count() const { return models::parameter_count(tensor_specs()); }

  friend bool operator==(const LanguageModelConfig&, const LanguageModelConfig&) = default;

 private:
  std::vector<ConfigField> fields();
};

}  // namespace fovea::models
