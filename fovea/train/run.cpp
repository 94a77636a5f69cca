#include "fovea/train/run.h"

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <map>
#include <optional>

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/data/split.h"
#include "fovea/io/atomic_file.h"
#include "fovea/io/file.h"
#include "fovea/train/classifier_data.h"
#include "fovea/train/interrupt.h"
#include "fovea/train/model_folder.h"
#include "fovea/train/precision.h"
#include "fovea/train/progress.h"
#include "fovea/train/provenance.h"
#include "fovea/train/trainer.h"

namespace fovea::train {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRunFormatVersion = 1;

// Everything between the files and the loop.
struct Prepared {
  models::TextClassifierConfig model_config;
  Tokenizer tokenizer;
  Examples train;
  Examples valid;
  io::Json data;  // for run.json
  io::Json hashes;
};

void check_request(const TrainRequest& request) {
  const RunConfig& c = request.config;
  if (request.out.empty()) throw InputError("--out: expected the folder of the model to be made");
  if (c.data.train.empty()) throw InputError("--train: expected a file or folder of examples");
  for (const std::string& path : {c.data.train, c.data.valid}) {
    if (path.empty()) continue;
    if (path == "-") throw InputError("training data is read several times, so it cannot be \"-\"");
    if (!fs::exists(path)) throw InputError(path + ": no such file or folder");
  }
}

// Whether a run in `out` came far enough to be worth asking about.
bool has_results(const std::string& out) {
  return fs::exists(out + "/model.safetensors") || fs::exists(out + "/checkpoints");
}

// Refuses to bury somebody's files, and somebody's model unless asked to.
void clear_folder(const TrainRequest& request) {
  const std::string& out = request.out;
  if (!request.resume && !fs::is_empty(out)) {
    if (!fs::exists(out + "/run.json")) {
      throw InputError(out + ": holds files that are not of a training run (no run.json); choose " +
                       "another --out");
    }
    if (!request.overwrite && has_results(out)) {
      throw InputError(out + ": is not empty; pass --resume to continue the run in it, " +
                       "--overwrite to replace it, or another --out");
    }
    for (const char* name : {"checkpoints", "log.jsonl", "model.safetensors", "run.json",
                             "README.md", "config.json", "tokenizer.json"}) {
      fs::remove_all(out + "/" + name);
    }
  }
  io::remove_stale_temporaries(out);
}

io::Json describe(const std::string& path, const Examples& examples,
                  const models::TextClassifierConfig& model) {
  std::vector<int64_t> counts(model.labels.size());
  for (int64_t i = 0; i < examples.size(); ++i) ++counts[static_cast<size_t>(examples.label(i))];
  io::Json per_label = io::Json::object();
  for (size_t i = 0; i < counts.size(); ++i) per_label[model.labels[i]] = counts[i];
  return {{"path", path},
          {"examples", examples.size()},
          {"tokens", examples.tokens()},
          {"truncated", examples.truncated()},
          {"truncated_tokens", examples.truncated_tokens()},
          {"labels", per_label}};
}

void tell(const std::string& name, const Examples& examples, int64_t max_length) {
  std::string text = name + ": " + std::to_string(examples.size()) + " examples, " +
                     format_count(static_cast<double>(examples.tokens())) + " tokens";
  if (examples.truncated() > 0) {
    text += ", " + std::to_string(examples.truncated()) + " cut to " + std::to_string(max_length) +
            " tokens (" + format_count(static_cast<double>(examples.truncated_tokens())) +
            " tokens lost)";
  }
  log_info(text);
}

std::string tokenizer_kind(const RunConfig& config) {
  if (config.tokenizer.file.empty()) return config.tokenizer.kind;
  return std::string(Tokenizer::load(config.tokenizer.file).kind());
}

Tokenizer saved_or_made_tokenizer(const TrainRequest& request, const data::DataOptions& options,
                                  const Selection& selected) {
  const std::string path = request.out + "/tokenizer.json";
  if (request.resume && fs::exists(path)) return Tokenizer::load(path);
  Tokenizer tokenizer = make_tokenizer(request.config, options, selected);
  io::write_file(path, tokenizer.to_json());
  return tokenizer;
}

Prepared prepare(const TrainRequest& request) {
  const RunConfig& c = request.config;
  const data::DataOptions options = reader_options(c.data, tokenizer_kind(c));
  const Truncate truncate = parse_truncate(c.data.truncate);
  const std::vector<std::string> all_labels = read_labels(c.data.train, options);
  const std::vector<std::string> labels = distinct_labels(all_labels, c.data.train);

  Selection for_train, for_valid;
  std::vector<bool> in_valid;
  if (c.data.valid.empty()) {
    const data::Split split = data::split_by_label(all_labels, c.data.valid_share, c.train.seed);
    in_valid.resize(all_labels.size());
    for (const int64_t i : split.valid) in_valid[static_cast<size_t>(i)] = true;
    for_train = [&](int64_t i) { return !in_valid[static_cast<size_t>(i)]; };
    for_valid = [&](int64_t i) { return in_valid[static_cast<size_t>(i)]; };
    log_info("no --valid: " + std::to_string(split.valid.size()) + " of " +
             std::to_string(all_labels.size()) + " examples are set apart for it (by label, seed " +
             std::to_string(c.train.seed) + ")");
  }
  Tokenizer tokenizer = saved_or_made_tokenizer(request, options, for_train);
  const models::TextClassifierConfig model = resolve_model(c, tokenizer.vocab_size(), labels);
  Examples train = encode_examples(c.data.train, options, tokenizer, model, truncate, for_train);
  Examples valid = encode_examples(c.data.valid.empty() ? c.data.train : c.data.valid, options,
                                   tokenizer, model, truncate, for_valid);
  tell("train", train, model.max_length);
  tell("valid", valid, model.max_length);
  if (valid.size() == 0) {
    throw InputError((c.data.valid.empty() ? c.data.train : c.data.valid) +
                     ": expected examples to validate on, found none; a label with a single " +
                     "example leaves none to be set apart, so give --valid FILE or more examples");
  }

  const io::Json hashes = {
      {"train", io::hash_path(c.data.train)},
      {"valid", c.data.valid.empty() ? io::Json() : io::Json(io::hash_path(c.data.valid))},
      {"tokenizer", io::hash_path(request.out + "/tokenizer.json")}};
  io::Json data = {{"train", describe(c.data.train, train, model)},
                   {"valid", describe(c.data.valid, valid, model)},
                   {"hashes", hashes}};
  return {model, std::move(tokenizer), std::move(train), std::move(valid), std::move(data), hashes};
}

std::string now_utc() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

io::Json describe_run(const TrainRequest& request, const Prepared& prepared, bool bf16) {
  return {{"format_version", kRunFormatVersion},
          {"status", "running"},
          {"started", now_utc()},
          {"config", to_json(request.config)},
          {"seed", request.config.train.seed},
          {"precision", bf16 ? "bf16" : "fp32"},
          {"versions", versions()},
          {"machine", machine()},
          {"parameters", prepared.model_config.parameter_count()},
          {"data", prepared.data}};
}

void write_result(const std::string& out, io::Json& run, const models::TextClassifierConfig& model,
                  const TrainingState& state, const char* status) {
  run["status"] = status;
  run["result"] = {{"steps", state.step},
                   {"tokens", state.tokens},
                   {"minutes", state.seconds / 60},
                   {"best_step", state.best_step},
                   {"valid", state.best}};
  io::write_json(out + "/run.json", run);
  io::write_file(out + "/README.md", model_card(run, model));
}

}  // namespace

int run_training(const TrainRequest& request) {
  check_request(request);
  const TrainSection& c = request.config.train;
  const bool bf16 = use_bf16(c.precision);
  if (fs::exists(request.out) && !fs::is_directory(request.out)) {
    throw InputError(request.out + ": expected a folder");
  }
  io::make_directories(request.out);
  const io::FolderLock lock(request.out);
  clear_folder(request);
  // The settings first: a run killed from here on can be resumed without repeating them.
  const std::string run_path = request.out + "/run.json";
  if (!fs::exists(run_path)) {
    io::write_json(run_path, {{"format_version", kRunFormatVersion},
                              {"status", "started"},
                              {"config", to_json(request.config)}});
  }
  const Prepared prepared = prepare(request);
  models::TextClassifier model = make_model(prepared.model_config, c.seed);
  if (!c.init.empty() && !start_from(c.init, model)) {
    log_info("the labels are not those of " + c.init + ": the classifier starts anew");
  }
  log_info("model: " + format_count(static_cast<double>(prepared.model_config.parameter_count())) +
           " parameters, attention " + prepared.model_config.attention +
           (bf16 ? ", bf16" : ", fp32"));

  Trainer trainer(c, model, prepared.train, prepared.valid, request.out,
                  run_provenance(request.config, bf16, prepared.hashes), bf16);
  if (request.resume && !trainer.resume(request.resume_anyway)) {
    log_info(request.out + ": no checkpoint yet, starting from the beginning");
    fs::remove(request.out + "/log.jsonl");
  }
  const std::string status =
      io::json_field_or<std::string>(io::read_json(run_path), "status", run_path, "");
  if (trainer.state().finished && status == "finished") {
    log_info(request.out + ": the run is already finished; to train its model further: " +
             "fovea train --init " + request.out);
    return 0;
  }
  // Only now is it sure that the run is this one: a refused resumption changes nothing.
  io::write_file(request.out + "/config.json", prepared.model_config.to_json());
  io::Json run = describe_run(request, prepared, bf16);
  io::write_json(run_path, run);
  catch_interrupts();
  if (trainer.run() == Outcome::kInterrupted) {
    const int signal = interrupted();
    write_result(request.out, run, prepared.model_config, trainer.state(), "interrupted");
    log_info("stopped at step " + std::to_string(trainer.state().step) +
             "; to continue: fovea train --resume --out " + request.out);
    return 128 + signal;
  }
  write_result(request.out, run, prepared.model_config, trainer.state(), "finished");
  log_info("done: " + request.out + " holds the model" +
           (c.keep_best ? " of step " + std::to_string(trainer.state().best_step) : "") +
           "; next: fovea eval --model " + request.out + " --data FILE");
  return 0;
}

}  // namespace fovea::train
