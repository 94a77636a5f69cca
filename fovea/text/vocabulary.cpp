#include "fovea/text/vocabulary.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "fovea/core/status.h"

namespace fovea {

std::string shown_token(std::string_view token) {
  constexpr size_t kMaxBytes = 60;
  std::string text = nlohmann::json(token.substr(0, kMaxBytes))
                         .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (token.size() > kMaxBytes) text += "…";
  return text;
}

std::vector<std::pair<std::string, int32_t>> read_vocabulary(const JsonField& vocab) {
  if (!vocab.value().is_object()) vocab.fail("an object {token: id}");
  std::vector<std::pair<std::string, int32_t>> tokens;
  for (const auto& [token, id] : vocab.value().items()) {
    const int64_t number = id.is_number_integer() ? id.get<int64_t>() : -1;
    if (number < 0 || number >= INT32_MAX) {
      JsonField(id, vocab.where() + "[" + shown_token(token) + "]").id();  // throws
    }
    tokens.emplace_back(token, static_cast<int32_t>(number));
  }
  std::sort(tokens.begin(), tokens.end(),
            [](const auto& a, const auto& b) { return a.second < b.second; });
  for (size_t i = 1; i < tokens.size(); ++i) {
    if (tokens[i].second != tokens[i - 1].second) continue;
    throw InputError(vocab.where() + ": id " + std::to_string(tokens[i].second) + " belongs to " +
                     shown_token(tokens[i - 1].first) + " and to " + shown_token(tokens[i].first) +
                     "; expected every id once");
  }
  const size_t limit = tokens.size() * 2 + 1024;
  if (!tokens.empty() && static_cast<size_t>(tokens.back().second) >= limit) {
    throw InputError(vocab.where() + "[" + shown_token(tokens.back().first) +
                     "]: expected an id below " + std::to_string(limit) + " in a vocabulary of " +
                     std::to_string(tokens.size()) + ", found " +
                     std::to_string(tokens.back().second) +
                     "; number the tokens without large gaps");
  }
  return tokens;
}

}  // namespace fovea
