#include "fovea/models/text_classifier/config.h"

#include <algorithm>
#include <initializer_list>
#include <numeric>
#include <set>
#include <sstream>

#include <nlohmann/json.hpp>

#include "fovea/core/status.h"
#include "fovea/nn/mixer_shapes.h"
#include "fovea/pattern/layer_attention.h"

namespace fovea::models {
namespace {

using Json = nlohmann::ordered_json;

// The one list of fields: reading, writing and name suggestions follow it.
template <typename Config, typename Visit>
void for_each_field(Config& c, Visit&& visit) {
  visit("vocab_size", c.vocab_size);
  visit("labels", c.labels);
  visit("layers", c.layers);
  visit("model_dim", c.model_dim);
  visit("heads", c.heads);
  visit("kv_heads", c.kv_heads);
  visit("ff_dim", c.ff_dim);
  visit("attention", c.attention);
  visit("positions", c.positions);
  visit("rope_theta", c.rope_theta);
  visit("max_length", c.max_length);
  visit("norm", c.norm);
  visit("norm_type", c.norm_type);
  visit("activation", c.activation);
  visit("pooling", c.pooling);
  visit("dropout", c.dropout);
  visit("attention_dropout", c.attention_dropout);
  visit("embedding_dropout", c.embedding_dropout);
  visit("token_dropout", c.token_dropout);
}

[[noreturn]] void fail(std::string_view place, std::string_view field, const std::string& what) {
  std::ostringstream message;
  message << place;
  if (!field.empty()) message << ": field \"" << field << '"';
  message << ": " << what;
  throw InputError(message.str());
}

int edit_distance(std::string_view a, std::string_view b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 0; i < a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i) + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const int above = row[j + 1];
      row[j + 1] = std::min({above + 1, row[j] + 1, diagonal + (a[i] != b[j])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string shortened(const std::string& text) {
  return text.size() <= 80 ? text : text.substr(0, 77) + "...";
}

std::string found(const Json& value) {
  return "found " + shortened(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void read(const Json& value, int64_t& out, std::string_view place, std::string_view field) {
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX})) {
    fail(place, field, "expected an integer, " + found(value));
  }
  out = value.get<int64_t>();
}

void read(const Json& value, double& out, std::string_view place, std::string_view field) {
  if (!value.is_number()) fail(place, field, "expected a number, " + found(value));
  out = value.get<double>();
}

void read(const Json& value, std::string& out, std::string_view place, std::string_view field) {
  if (!value.is_string()) fail(place, field, "expected a text, " + found(value));
  out = value.get<std::string>();
}

void read(const Json& value, std::vector<std::string>& out, std::string_view place,
          std::string_view field) {
  const bool texts = value.is_array() && std::all_of(value.begin(), value.end(),
                                                     [](const Json& x) { return x.is_string(); });
  if (!texts) fail(place, field, "expected a list of texts, " + found(value));
  out = value.get<std::vector<std::string>>();
}

void check_header(const Json& root, std::string_view place) {
  if (!root.is_object()) fail(place, "", "expected a JSON object, " + found(root));
  if (!root.contains("model_type") || root["model_type"] != TextClassifierConfig::kModelType) {
    fail(place, "model_type",
         "expected \"" + std::string(TextClassifierConfig::kModelType) + "\", " +
             (root.contains("model_type") ? found(root["model_type"]) : "found nothing") +
             "; this is not the config of a fovea text classifier");
  }
  if (!root.contains("format_version")) {
    fail(place, "format_version",
         "missing; expected an integer from 1 to " +
             std::to_string(TextClassifierConfig::kFormatVersion));
  }
  int64_t version = 0;
  read(root["format_version"], version, place, "format_version");
  if (version > TextClassifierConfig::kFormatVersion) {
    fail(place, "format_version",
         "found " + std::to_string(version) + ", but this program reads formats up to " +
             std::to_string(TextClassifierConfig::kFormatVersion) +
             "; the model was written by a newer fovea: update fovea to use it");
  }
  if (version < 1) fail(place, "format_version", "expected at least 1, " + found(version));
}

void check_known(const Json& root, std::string_view place) {
  std::vector<std::string> known = {"model_type", "format_version"};
  TextClassifierConfig config;
  for_each_field(config, [&](const char* name, auto&) { known.emplace_back(name); });
  for (const auto& item : root.items()) {
    const std::string& key = item.key();
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string shown = shortened(key);
    const auto nearest = std::min_element(known.begin(), known.end(), [&](auto& a, auto& b) {
      return edit_distance(shown, a) < edit_distance(shown, b);
    });
    fail(place, shown, "unknown; did you mean \"" + *nearest + "\"?");
  }
}

struct Checker {
  std::string_view place;

  void integer(std::string_view field, int64_t value, int64_t low, int64_t high) const {
    if (value >= low && value <= high) return;
    fail(place, field,
         "expected " + std::to_string(low) + " to " + std::to_string(high) + ", found " +
             std::to_string(value));
  }
  void probability(std::string_view field, double value) const {
    if (value >= 0 && value < 1) return;
    std::ostringstream what;
    what << "expected a probability from 0 to below 1, found " << value;
    fail(place, field, what.str());
  }
  void choice(std::string_view field, const std::string& value,
              std::initializer_list<std::string_view> choices) const {
    if (std::find(choices.begin(), choices.end(), value) != choices.end()) return;
    std::string what = "expected one of";
    for (const auto c : choices) what += (c == *choices.begin() ? " " : ", ") + std::string(c);
    fail(place, field, what + "; found \"" + shortened(value) + '"');
  }
};

void check_shape(const TextClassifierConfig& c, const Checker& check) {
  check.integer("vocab_size", c.vocab_size, 1, int64_t{1} << 24);
  check.integer("layers", c.layers, 1, 1024);
  check.integer("model_dim", c.model_dim, 8, 65536);
  check.integer("heads", c.heads, 1, c.model_dim / 8);
  if (c.model_dim % c.heads != 0 || c.model_dim / c.heads % 8 != 0 || c.model_dim / c.heads > 256) {
    fail(check.place, "heads",
         "expected model_dim / heads to be a multiple of 8 up to 256, found " +
             std::to_string(c.model_dim) + " / " + std::to_string(c.heads));
  }
  check.integer("kv_heads", c.kv_heads, 1, c.heads);
  if (c.heads % c.kv_heads != 0) {
    fail(check.place, "kv_heads",
         "expected a divisor of heads (" + std::to_string(c.heads) + "), found " +
             std::to_string(c.kv_heads));
  }
  check.integer("ff_dim", c.ff_dim, 1, 1 << 20);
  check.integer("max_length", c.max_length, 1, int64_t{1} << 27);
}

void check_labels(const std::vector<std::string>& labels, std::string_view place) {
  if (labels.size() < 2) {
    fail(place, "labels", "expected at least 2 labels, found " + std::to_string(labels.size()));
  }
  std::set<std::string_view> seen;
  for (const auto& label : labels) {
    if (!seen.insert(label).second) {
      fail(place, "labels", "expected distinct labels, found \"" + shortened(label) + "\" twice");
    }
  }
}

void check_attention(const TextClassifierConfig& c, std::string_view place) {
  std::vector<LayerAttention> layers;
  try {
    layers = parse_layers(c.attention, c.layers);
    check_heads(layers, c.heads);
  } catch (const InputError& error) {
    fail(place, "attention", error.what());
  }
  for (const LayerAttention& layer : layers) {
    if (layer.mechanism != Mechanism::kSoftmax && layer.mechanism != Mechanism::kLinear) {
      const std::string unmet = nn::unmet_of_mixer(layer.mechanism, c.model_dim, c.heads);
      if (!unmet.empty()) fail(place, "attention", "expected " + unmet);
      if (c.kv_heads != c.heads) {
        fail(place, "kv_heads",
             "expected as many as heads with " + layer.to_string() + ", found " +
                 std::to_string(c.kv_heads));
      }
    }
    if (!layer.pattern.uses_inputs()) continue;
    fail(place, "attention",
         "expected patterns without per-batch tensors (packed documents are kept apart anyway), "
         "found \"" +
             layer.to_string() + '"');
  }
}

}  // namespace

void TextClassifierConfig::validate(std::string_view place) const {
  const Checker check{place};
  check_shape(*this, check);
  check_labels(labels, place);
  check.choice("positions", positions, {"rotary", "learned", "sinusoidal", "none"});
  if (!(rope_theta > 1 && rope_theta < 1e12)) {
    fail(place, "rope_theta",
         "expected a number above 1 and below 1e12, found " + std::to_string(rope_theta));
  }
  check.choice("norm", norm, {"pre", "post"});
  check.choice("norm_type", norm_type, {"layer", "rms"});
  check.choice("activation", activation, {"gelu", "relu", "swiglu", "geglu"});
  check.choice("pooling", pooling, {"mean", "max", "first", "last", "attention"});
  check.probability("dropout", dropout);
  check.probability("attention_dropout", attention_dropout);
  check.probability("embedding_dropout", embedding_dropout);
  check.probability("token_dropout", token_dropout);
  check_attention(*this, place);
}

TextClassifierConfig TextClassifierConfig::from_json(std::string_view text,
                                                     std::string_view place) {
  Json root;
  try {
    root = Json::parse(text);
  } catch (const Json::exception& error) {
    fail(place, "", std::string("not valid JSON: ") + error.what());
  }
  check_header(root, place);
  check_known(root, place);
  TextClassifierConfig config;
  for_each_field(config, [&](const char* name, auto& value) {
    if (!root.contains(name)) fail(place, name, "missing; every field must be given");
    read(root[name], value, place, name);
  });
  config.validate(place);
  return config;
}

std::string TextClassifierConfig::to_json() const {
  Json root;
  root["model_type"] = kModelType;
  root["format_version"] = kFormatVersion;
  for_each_field(*this, [&](const char* name, const auto& value) { root[name] = value; });
  return root.dump(2) + "\n";
}

std::vector<TensorSpec> TextClassifierConfig::tensor_specs() const {
  std::vector<TensorSpec> specs;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    specs.push_back({name, std::move(shape)});
  };
  const auto add_linear = [&](const std::string& name, int64_t in, int64_t out) {
    add(name + ".weight", {out, in});
    add(name + ".bias", {out});
  };
  const auto add_norm = [&](const std::string& name) {
    add(name + ".weight", {model_dim});
    if (norm_type == "layer") add(name + ".bias", {model_dim});
  };
  const bool gated = activation == "swiglu" || activation == "geglu";
  add("embeddings.tokens.weight", {vocab_size, model_dim});
  if (positions == "learned") add("embeddings.positions.weight", {max_length, model_dim});
  add_norm("embeddings.norm");
  const std::vector<LayerAttention> attentions = parse_layers(attention, layers);
  for (int64_t i = 0; i < layers; ++i) {
    const std::string layer = "encoder.layers." + std::to_string(i) + ".";
    const int64_t head_dim = model_dim / heads;
    const Mechanism mechanism = attentions[static_cast<size_t>(i)].mechanism;
    if (mechanism == Mechanism::kSoftmax || mechanism == Mechanism::kLinear) {
      add_linear(layer + "attention.qkv", model_dim, (heads + 2 * kv_heads) * head_dim);
      add_linear(layer + "attention.output", model_dim, model_dim);
    } else {
      for (auto& [name, shape] : nn::mixer_parameters(mechanism, model_dim, heads)) {
        add(layer + "attention.mixer." + name, std::move(shape));
      }
    }
    add_norm(layer + "attention_norm");
    add_linear(layer + "feed_forward.input", model_dim, gated ? 2 * ff_dim : ff_dim);
    add_linear(layer + "feed_forward.output", ff_dim, model_dim);
    add_norm(layer + "feed_forward_norm");
  }
  if (norm == "pre") add_norm("encoder.norm");
  if (pooling == "attention") add_linear("pooling.score", model_dim, heads);
  add_linear("classifier", model_dim, static_cast<int64_t>(labels.size()));
  return specs;
}

int64_t TextClassifierConfig::parameter_count() const {
  int64_t count = 0;
  for (const TensorSpec& spec : tensor_specs()) {
    count += std::accumulate(spec.shape.begin(), spec.shape.end(), int64_t{1}, std::multiplies<>());
  }
  return count;
}

}  // namespace fovea::models
