#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/text/json_field.h"

namespace fovea {

/// The normalizer of a `tokenizer.json`: changes a text before it is split.
class Normalizer {
 public:
  /// No change.
  Normalizer() = default;

  /// Reads a normalizer's object. Throws InputError naming what is not supported.
  explicit Normalizer(const JsonField& config);

  bool empty() const { return steps_.empty(); }

  /// `text` (valid UTF-8) normalized.
  std::string operator()(std::string_view text) const;

 private:
  using Step = std::function<void(std::string& text, size_t original_bytes)>;
  void add(const JsonField& config);
  std::vector<Step> steps_;
};

}  // namespace fovea
