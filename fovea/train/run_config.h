#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "fovea/io/config.h"
#include "fovea/io/json.h"
#include "fovea/models/language_model/config.h"
#include "fovea/models/text_classifier/config.h"

namespace fovea::train {

struct DataSection {
  std::string train;                         ///< file or folder of examples
  std::string valid;                         ///< "" = a part of `train`, chosen by `train.seed`
  double valid_share = 0.1;                  ///< that part, when `valid` is ""
  std::string format = "auto";               ///< auto, jsonl, tsv, csv, labelled, folder
  std::vector<std::string> text = {"text"};  ///< fields that make the text
  std::string label = "label";               ///< field of the label
  std::vector<std::string> columns;          ///< names of all columns; empty: label, text
  std::string encoding_errors = "auto";      ///< auto, strict, replace, bytes
  std::string truncate = "head";             ///< which end of a long document stays
};

struct TokenizerSection {
  std::string file;          ///< an existing tokenizer.json; "" = made from the training texts
  std::string kind = "bpe";  ///< byte, word, bpe
  int64_t vocab_size = 0;    ///< 0 = 16384 for bpe, 50000 for word
  int64_t min_count = 2;     ///< rarer words are unknown, rarer pairs are not merged
  std::string split = "punctuation";  ///< or whitespace: where words end; word only
  bool lowercase = false;             ///< word only
  std::string stop_words = "none";    ///< none, english; word only
};

/// What the user sets of a model; the rest of its config comes from the data.
struct ModelSection : models::EncoderConfig {
  std::string pooling = "mean";  ///< of a classifier
  int64_t summary_tokens = 0;    ///< of a classifier
  bool tie_embeddings = true;    ///< of a language model
};

struct TrainSection {
  std::string task = "classify";  ///< classify, lm
  std::string init;               ///< model folder to start from
  uint64_t seed = 1;
  int64_t epochs = 10;
  int64_t max_steps = 0;   ///< 0 = no bound
  double max_minutes = 0;  ///< 0 = no bound
  double lr = 1e-3;
  std::string schedule = "linear";
  double warmup = 0.06;      ///< share of the updates
  int64_t warmup_steps = 0;  ///< when > 0, instead of `warmup`
  int64_t batch_tokens = 16384;
  int64_t batch_examples = 0;  ///< 0 = no bound
  int64_t micro_tokens = 16384;
  bool bucket = true;
  double weight_decay = 0.01;
  bool decay_all = false;
  double beta1 = 0.9;
  double beta2 = 0.98;
  double eps = 1e-8;
  double clip = 1.0;  ///< 0 = no clipping
  double label_smoothing = 0;
  std::string precision = "auto";
  bool checkpointing = false;
  int64_t eval_every = 0;  ///< updates; 0 = at the end of each epoch
  std::string metric = "macro_f1";
  int64_t patience = 0;  ///< evaluations without a new best; 0 = never stop early
  bool keep_best = true;
  int64_t save_every = 0;  ///< updates; 0 = with every evaluation
  int64_t keep = 1;
  int64_t log_every = 10;
};

/// Everything that decides a training run. `model.vocab_size` and `model.labels` come from the data
/// and are no settings; `model.kv_heads` = 0 means heads, `model.ff_dim` = 0 means 4 model_dim;
/// `model.attention` and `train.metric` = auto are what the task wants.
struct RunConfig {
  RunConfig();

  DataSection data;
  TokenizerSection tokenizer;
  ModelSection model;
  TrainSection train;
};

/// The settings that a finished model's config amounts to.
ModelSection model_section(const models::TextClassifierConfig& config);
ModelSection model_section(const models::LanguageModelConfig& config);

/// What is said and checked about one setting.
struct Field {
  const char* key;   ///< dotted
  const char* help;  ///< one line
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  std::vector<std::string> choices = {};  ///< of a string; empty = free
  bool list = false;                      ///< of strings
  std::string default_text = {};          ///< as JSON
};

/// Keys and help of all settings, in the order of --dump-config.
std::vector<Field> run_config_fields();

/// Reads all settings over `base`; throws InputError, with the place, for a value out of range and
/// for unknown keys, with the nearest one.
RunConfig read_run_config(io::Config& config, RunConfig base = {});

/// The settings as an object of sections, and back. `from_json` takes missing keys as defaults and
/// throws InputError for unknown ones; `name` is for messages.
io::Json to_json(const RunConfig& config);
RunConfig run_config_from_json(const io::Json& json, const std::string& name);

/// The model that a run trains, with sizes that stand for others resolved. Throws InputError where
/// the settings do not fit together.
models::TextClassifierConfig resolve_model(const RunConfig& config, int64_t vocab_size,
                                           std::vector<std::string> labels);
models::LanguageModelConfig resolve_language_model(const RunConfig& config, int64_t vocab_size);

/// `train.metric`, or what `auto` means for the task; throws InputError for a metric that the task
/// does not have.
std::string resolve_metric(const TrainSection& train);

}  // namespace fovea::train
