#include "fovea/models/text_classifier/config.h"

#include <set>

namespace fovea::models {
namespace {

constexpr ConfigFormat kFormat = {TextClassifierConfig::kModelType,
                                  TextClassifierConfig::kFormatVersion, "a fovea text classifier"};

void check_labels(const std::vector<std::string>& labels, std::string_view place) {
  if (labels.size() < 2) {
    fail_config(place, "labels",
                "expected at least 2 labels, found " + std::to_string(labels.size()));
  }
  std::set<std::string_view> seen;
  for (const auto& label : labels) {
    if (!seen.insert(label).second) {
      fail_config(place, "labels",
                  "expected distinct labels, found \"" + shortened(label) + "\" twice");
    }
  }
}

}  // namespace

std::vector<ConfigField> TextClassifierConfig::fields() {
  std::vector<ConfigField> all = encoder_fields();
  all.push_back({"labels", &labels});
  all.push_back({"pooling", &pooling});
  all.push_back({"summary_tokens", &summary_tokens, 3});
  return all;
}

void TextClassifierConfig::validate(std::string_view place) const {
  validate_encoder(place);
  check_labels(labels, place);
  ConfigChecker{place}.choice("pooling", pooling, {"mean", "max", "first", "last", "attention"});
  ConfigChecker{place}.integer("summary_tokens", summary_tokens, 0, 4096);
}

TextClassifierConfig TextClassifierConfig::from_json(std::string_view text,
                                                     std::string_view place) {
  TextClassifierConfig config;
  read_config(text, place, kFormat, config.fields());
  config.validate(place);
  return config;
}

std::string TextClassifierConfig::to_json() const {
  TextClassifierConfig copy = *this;
  return write_config(kFormat, copy.fields());
}

std::vector<TensorSpec> TextClassifierConfig::tensor_specs() const {
  std::vector<TensorSpec> specs = encoder_specs();
  if (summary_tokens > 0) specs.push_back({"summary.weight", {summary_tokens, model_dim}});
  if (pooling == "attention") add_linear_specs(specs, "pooling.score", model_dim, heads);
  add_linear_specs(specs, "classifier", model_dim, static_cast<int64_t>(labels.size()));
  return specs;
}

}  // namespace fovea::models
