#include "fovea/models/language_model/generation.h"

#include <algorithm>
#include <string>

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

#include "fovea/core/status.h"

namespace fovea::models {
namespace {

void require(bool condition, const std::string& expected, int64_t found) {
  if (condition) return;
  throw InputError("generation: expected " + expected + ", found " + std::to_string(found));
}

torch::Tensor ids_of(std::span<const int32_t> tokens) {
  const torch::Tensor ids = at::empty({static_cast<int64_t>(tokens.size())}, at::kLong);
  std::copy(tokens.begin(), tokens.end(), ids.mutable_data_ptr<int64_t>());
  return ids;
}

}  // namespace

const char* name_of(Finish finish) {
  switch (finish) {
    case Finish::kEnd:
      return "end";
    case Finish::kMaxTokens:
      return "max_tokens";
    case Finish::kMaxLength:
      return "max_length";
  }
  return "";
}

Continuation continue_greedily(LanguageModel& model, std::span<const int32_t> prompt,
                               const GenerationOptions& options) {
  const auto given = static_cast<int64_t>(prompt.size());
  const int64_t max_length = model->config().max_length;
  require(given > 0, "a prompt of at least one token", given);
  require(given < max_length,
          "a prompt of fewer than max_length = " + std::to_string(max_length) + " tokens", given);
  require(options.max_tokens > 0, "max_tokens of at least 1", options.max_tokens);
  const at::NoGradGuard no_grad;
  model->eval();
  Continuation result;
  std::vector<int32_t> text(prompt.begin(), prompt.end());
  LanguageModelState state;
  for (torch::Tensor next = ids_of(text);;) {
    const auto token = model->step(next, state).argmax().item<int64_t>();
    if (options.end && token == *options.end) {
      result.finish = Finish::kEnd;
      return result;
    }
    result.tokens.push_back(static_cast<int32_t>(token));
    const auto made = static_cast<int64_t>(result.tokens.size());
    result.finish = given + made == max_length ? Finish::kMaxLength : Finish::kMaxTokens;
    if (made == options.max_tokens || result.finish == Finish::kMaxLength) return result;
    if (options.recompute) {
      text.push_back(static_cast<int32_t>(token));
      next = ids_of(text);
      state = {};
    } else {
      next = ids_of({&result.tokens.back(), 1});
    }
  }
}

}  // namespace fovea::models
