#include "fovea/train/run_config.h"

#include <algorithm>
#include <limits>
#include <sstream>
#include <type_traits>

#include "fovea/core/status.h"
#include "fovea/io/suggest.h"

namespace fovea::train {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// The one list of settings: calls visitor(field, member) for each.
template <typename Config, typename Visitor>
void visit(Config& c, Visitor&& v) {
  auto& d = c.data;
  v(Field{"data.train", "training examples: a file or a folder with one folder per class"},
    d.train);
  v(Field{"data.valid", "examples to choose the best model by; empty: a part of the training ones"},
    d.valid);
  v(Field{"data.valid_share", "that part, when data.valid is empty", 0.001, 0.9}, d.valid_share);
  v(Field{"data.format",
          "how examples are written; text (a line a text) and file (a file a text) have no labels",
          -kInf,
          kInf,
          {"auto", "jsonl", "tsv", "csv", "labelled", "folder", "text", "file"}},
    d.format);
  v(Field{"data.text", "fields that are joined to make the text"}, d.text);
  v(Field{"data.label", "field of the label"}, d.label);
  v(Field{"data.columns", "names of all columns of TSV and CSV; empty: label and text"}, d.columns);
  v(Field{"data.encoding_errors",
          "invalid UTF-8 is an error, becomes U+FFFD, or stays (byte models; auto: just for them)",
          -kInf,
          kInf,
          {"auto", "strict", "replace", "bytes"}},
    d.encoding_errors);
  v(Field{"data.truncate",
          "what stays of a document above model.max_length",
          -kInf,
          kInf,
          {"head", "tail", "both"}},
    d.truncate);

  auto& k = c.tokenizer;
  v(Field{"tokenizer.file", "an existing tokenizer.json; empty: made from the training texts"},
    k.file);
  v(Field{"tokenizer.kind", "units of the text", -kInf, kInf, {"byte", "word", "bpe"}}, k.kind);
  v(Field{"tokenizer.vocab_size", "entries at most; 0: 16384 for bpe, 50000 for word", 0, 1 << 24},
    k.vocab_size);
  v(Field{"tokenizer.min_count", "rarer words are unknown, rarer pairs are not merged", 1, kInf},
    k.min_count);
  v(Field{"tokenizer.split", "where words end", -kInf, kInf, {"punctuation", "whitespace"}},
    k.split);
  v(Field{"tokenizer.lowercase", "words in lower case"}, k.lowercase);
  v(Field{"tokenizer.stop_words", "words that are dropped", -kInf, kInf, {"none", "english"}},
    k.stop_words);

  auto& m = c.model;
  v(Field{"model.layers", "encoder layers", 1, 1024}, m.layers);
  v(Field{"model.model_dim", "features of a token", 8, 1 << 20}, m.model_dim);
  v(Field{"model.heads", "attention heads", 1, 4096}, m.heads);
  v(Field{"model.kv_heads", "key and value heads; 0: as many as heads", 0, 4096}, m.kv_heads);
  v(Field{"model.ff_dim", "inner features of the feed-forward; 0: 4 x model_dim", 0, 1 << 22},
    m.ff_dim);
  v(Field{"model.attention",
          "who attends to whom, per layer: 'window(64)*2, full'; auto: full, or causal (lm)"},
    m.attention);
  v(Field{"model.positions",
          "how positions are told",
          -kInf,
          kInf,
          {"rotary", "learned", "sinusoidal", "none"}},
    m.positions);
  v(Field{"model.rope_theta", "base of the rotary angles", 1, kInf}, m.rope_theta);
  v(Field{"model.max_length", "tokens of the longest document", 1, 1 << 27}, m.max_length);
  v(Field{"model.norm",
          "norm before or after attention and feed-forward",
          -kInf,
          kInf,
          {"pre", "post"}},
    m.norm);
  v(Field{"model.norm_type", "LayerNorm or RMSNorm", -kInf, kInf, {"layer", "rms"}}, m.norm_type);
  v(Field{"model.activation",
          "of the feed-forward",
          -kInf,
          kInf,
          {"gelu", "relu", "swiglu", "geglu"}},
    m.activation);
  v(Field{"model.pooling",
          "how a document becomes one vector (classify)",
          -kInf,
          kInf,
          {"mean", "max", "first", "last", "attention"}},
    m.pooling);
  v(Field{"model.summary_tokens",
          "learned tokens before each document that all see and that see all (classify)", 0, 4096},
    m.summary_tokens);
  v(Field{"model.tie_embeddings", "the output projection is the embedding table (lm)"},
    m.tie_embeddings);
  v(Field{"model.dropout", "after attention and feed-forward", 0, 0.99}, m.dropout);
  v(Field{"model.attention_dropout", "of attention weights", 0, 0.99}, m.attention_dropout);
  v(Field{"model.embedding_dropout", "of the elements of embeddings", 0, 0.99},
    m.embedding_dropout);
  v(Field{"model.token_dropout", "of whole tokens", 0, 0.99}, m.token_dropout);
  v(Field{"model.scores",
          "what a score is made of: dot products, additive (tanh inside), leaky (ReLU of a sum)",
          -kInf,
          kInf,
          {"dot", "additive", "leaky"}},
    m.scores);
  v(Field{"model.position_bias",
          "what the distance of tokens does to their score",
          -kInf,
          kInf,
          {"none", "alibi", "t5"}},
    m.position_bias);
  v(Field{"model.bias_buckets", "buckets of distances that t5 learns, a multiple of 4", 4, 4096},
    m.bias_buckets);
  v(Field{"model.bias_max_distance", "beyond it, t5 tells no distances apart", 2, 1 << 20},
    m.bias_max_distance);
  v(Field{"model.softcap", "scores s become c tanh(s / c); 0: off", 0, 1e6}, m.softcap);
  v(Field{"model.cosine", "scores of unit vectors, with a learned temperature a head"}, m.cosine);
  v(Field{"model.sinks", "a learned score a head that takes weight and gives nothing"}, m.sinks);

  auto& t = c.train;
  v(Field{"train.task",
          "what is learned: a label for each text, or the next token (a language model)",
          -kInf,
          kInf,
          {"classify", "lm"}},
    t.task);
  v(Field{"train.init", "model folder to start from"}, t.init);
  v(Field{"train.seed", "of weights, order, dropout and split"}, t.seed);
  v(Field{"train.epochs", "passes over the training examples", 1, 1 << 20}, t.epochs);
  v(Field{"train.max_steps", "updates at most; 0: no bound", 0, kInf}, t.max_steps);
  v(Field{"train.max_minutes", "minutes at most, the schedule included; 0: no bound", 0, kInf},
    t.max_minutes);
  v(Field{"train.lr", "peak learning rate", 0, 10}, t.lr);
  v(Field{"train.schedule",
          "course of the learning rate",
          -kInf,
          kInf,
          {"linear", "cosine", "inverse_sqrt", "constant"}},
    t.schedule);
  v(Field{"train.warmup", "share of the updates with a rising learning rate", 0, 1}, t.warmup);
  v(Field{"train.warmup_steps", "those updates as a number; 0: by train.warmup", 0, kInf},
    t.warmup_steps);
  v(Field{"train.batch_tokens", "tokens of an update", 1, kInf}, t.batch_tokens);
  v(Field{"train.batch_examples", "examples of an update at most; 0: no bound", 0, kInf},
    t.batch_examples);
  v(Field{"train.micro_tokens", "tokens computed at once: less needs less memory", 1, kInf},
    t.micro_tokens);
  v(Field{"train.bucket", "compute documents of similar length together"}, t.bucket);
  v(Field{"train.weight_decay", "decoupled (AdamW)", 0, 10}, t.weight_decay);
  v(Field{"train.decay_all", "decay biases, norms and embeddings too"}, t.decay_all);
  v(Field{"train.beta1", "AdamW's first decay rate", 0, 0.99999}, t.beta1);
  v(Field{"train.beta2", "AdamW's second decay rate", 0, 0.999999}, t.beta2);
  v(Field{"train.eps", "AdamW's epsilon", 1e-30, 1}, t.eps);
  v(Field{"train.clip", "largest norm of the gradient; 0: no clipping", 0, kInf}, t.clip);
  v(Field{"train.label_smoothing", "share of the target spread over all labels", 0, 0.99},
    t.label_smoothing);
  v(Field{"train.precision",
          "of matrix products; auto: bf16 where the machine gains from it",
          -kInf,
          kInf,
          {"auto", "fp32", "bf16"}},
    t.precision);
  v(Field{"train.checkpointing", "compute activations twice to save memory"}, t.checkpointing);
  v(Field{"train.eval_every", "updates between evaluations; 0: once an epoch", 0, kInf},
    t.eval_every);
  v(Field{"train.metric",
          "by which the best model is chosen; auto: macro_f1, or loss (lm)",
          -kInf,
          kInf,
          {"auto", "macro_f1", "accuracy", "mcc", "loss"}},
    t.metric);
  v(Field{"train.patience", "evaluations without a new best before stopping; 0: never", 0, kInf},
    t.patience);
  v(Field{"train.keep_best", "the result is the best model, not the last"}, t.keep_best);
  v(Field{"train.save_every", "updates between checkpoints; 0: with every evaluation", 0, kInf},
    t.save_every);
  v(Field{"train.keep", "checkpoints that are kept", 1, kInf}, t.keep);
  v(Field{"train.log_every", "updates between lines of log.jsonl", 1, kInf}, t.log_every);
}

std::string range_text(const Field& field) {
  std::ostringstream text;
  text << "expected a number";
  if (field.min != -kInf && field.max != kInf) {
    text << " from " << field.min << " to " << field.max;
  } else if (field.min != -kInf) {
    text << " of at least " << field.min;
  }
  return text.str();
}

// What is wrong with a value, or "".
template <typename T>
std::string fault(const Field& field, const T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    if (field.choices.empty()) return "";
    std::string all;
    for (const std::string& choice : field.choices) {
      if (value == choice) return "";
      all += (all.empty() ? "" : ", ") + choice;
    }
    return "expected one of " + all + ", found \"" + value + "\"" +
           io::suggestion(value, field.choices);
  } else if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
    const double number = static_cast<double>(value);
    if (number >= field.min && number <= field.max) return "";
    std::ostringstream text;
    text << range_text(field) << ", found " << value;
    return text.str();
  } else {
    return "";
  }
}

}  // namespace

RunConfig::RunConfig() {
  model.kv_heads = 0;
  model.ff_dim = 0;
  model.attention = "auto";
  train.metric = "auto";
}

ModelSection model_section(const models::TextClassifierConfig& config) {
  ModelSection section{config};
  section.pooling = config.pooling;
  section.summary_tokens = config.summary_tokens;
  return section;
}

ModelSection model_section(const models::LanguageModelConfig& config) {
  ModelSection section{config};
  section.tie_embeddings = config.tie_embeddings;
  return section;
}

std::vector<Field> run_config_fields() {
  std::vector<Field> fields;
  RunConfig config;
  visit(config, [&](Field field, auto& value) {
    field.list = std::is_same_v<decltype(value), std::vector<std::string>&>;
    field.default_text = io::dump_json(io::Json(value));
    fields.push_back(std::move(field));
  });
  return fields;
}

RunConfig read_run_config(io::Config& config, RunConfig run) {
  visit(run, [&](const Field& field, auto& value) {
    config.read(field.key, value);
    const std::string what = fault(field, value);
    if (!what.empty()) config.fail(field.key, what);
  });
  config.refuse_unknown();
  return run;
}

io::Json to_json(const RunConfig& config) {
  io::Json json = io::Json::object();
  visit(config, [&](const Field& field, const auto& value) {
    const std::string key = field.key;
    const size_t dot = key.find('.');
    json[key.substr(0, dot)][key.substr(dot + 1)] = value;
  });
  return json;
}

RunConfig run_config_from_json(const io::Json& json, const std::string& name) {
  RunConfig run;
  std::vector<std::string> known;
  visit(run, [&](const Field& field, auto& value) {
    const std::string key = field.key;
    known.push_back(key);
    const size_t dot = key.find('.');
    const auto section = json.find(key.substr(0, dot));
    if (section == json.end() || !section->is_object()) return;
    const auto member = section->find(key.substr(dot + 1));
    if (member == section->end()) return;
    try {
      member->get_to(value);
    } catch (const io::Json::exception&) {
      throw InputError(name + ": " + key + ": unexpected type \"" + member->type_name() + "\"");
    }
    const std::string what = fault(field, value);
    if (!what.empty()) throw InputError(name + ": " + key + ": " + what);
  });
  for (const auto& [section, members] : json.items()) {
    for (const auto& [key, value] : members.items()) {
      const std::string dotted = section + "." + key;
      if (std::find(known.begin(), known.end(), dotted) == known.end()) {
        throw InputError(name + ": unknown setting \"" + dotted + "\"" +
                         io::suggestion(dotted, known));
      }
    }
  }
  return run;
}

namespace {

// The part of a model's config that settings decide, whatever the task.
void resolve_encoder(const ModelSection& section, int64_t vocab_size, const char* attention,
                     models::EncoderConfig& model) {
  model = section;
  model.vocab_size = vocab_size;
  if (model.attention == "auto") model.attention = attention;
  if (model.kv_heads == 0) model.kv_heads = model.heads;
  if (model.ff_dim == 0) model.ff_dim = 4 * model.model_dim;
}

}  // namespace

models::TextClassifierConfig resolve_model(const RunConfig& config, int64_t vocab_size,
                                           std::vector<std::string> labels) {
  models::TextClassifierConfig model;
  resolve_encoder(config.model, vocab_size, "full", model);
  model.pooling = config.model.pooling;
  model.summary_tokens = config.model.summary_tokens;
  model.labels = std::move(labels);
  model.validate("model");
  return model;
}

models::LanguageModelConfig resolve_language_model(const RunConfig& config, int64_t vocab_size) {
  if (config.model.summary_tokens > 0) {
    throw InputError("model.summary_tokens: expected 0 for a language model, found " +
                     std::to_string(config.model.summary_tokens) +
                     ": they see all tokens and all tokens see them, so each would see the ones "
                     "that it is to predict; window(w,0)+linear(causal) remembers what is before");
  }
  models::LanguageModelConfig model;
  resolve_encoder(config.model, vocab_size, "causal", model);
  model.tie_embeddings = config.model.tie_embeddings;
  model.validate("model");
  return model;
}

std::string resolve_metric(const TrainSection& train) {
  if (train.metric == "auto") return train.task == "lm" ? "loss" : "macro_f1";
  if (train.task == "lm" && train.metric != "loss" && train.metric != "accuracy") {
    throw InputError("train.metric: a language model has loss and accuracy (of tokens), found \"" +
                     train.metric + "\"");
  }
  return train.metric;
}

}  // namespace fovea::train
