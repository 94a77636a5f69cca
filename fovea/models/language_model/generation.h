#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "fovea/models/language_model/model.h"

namespace fovea::models {

struct GenerationOptions {
  int64_t max_tokens = 128;    ///< of a continuation, at least 1
  std::optional<int32_t> end;  ///< the token that ends a text; it is not part of a continuation
  bool recompute = false;      ///< compute the whole text for each token, without a state
};

/// Why a continuation ends.
enum class Finish {
  kEnd,        ///< the model ended the text
  kMaxTokens,  ///< GenerationOptions::max_tokens
  kMaxLength,  ///< the text is as long as the model's max_length
};
const char* name_of(Finish finish);  ///< end, max_tokens, max_length

struct Continuation {
  std::vector<int32_t> tokens;
  Finish finish = Finish::kMaxTokens;
};

/// Continues a text by the likeliest token again and again (of equal ones, that of the smallest
/// id). `prompt`: at least one token, fewer than the model's max_length. The model is in evaluation
/// mode afterwards. Throws InputError where prompt or options are not as described. Cost: a pass
/// over the prompt, then LanguageModel::step() a token.
Continuation continue_greedily(LanguageModel& model, std::span<const int32_t> prompt,
                               const GenerationOptions& options);

}  // namespace fovea::models
