#include "fovea/train/run.h"

#include <ctime>
#include <filesystem>

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/data/split.h"
#include "fovea/io/atomic_file.h"
#include "fovea/io/file.h"
#include "fovea/train/interrupt.h"
#include "fovea/train/precision.h"
#include "fovea/train/prepare.h"
#include "fovea/train/progress.h"
#include "fovea/train/provenance.h"
#include "fovea/train/trainer.h"

namespace fovea::train {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRunFormatVersion = 1;

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
          {"parameters", prepared.parameters},
          {"data", prepared.data}};
}

void write_result(const std::string& out, io::Json& run, const Prepared& prepared,
                  const TrainingState& state, const char* status) {
  run["status"] = status;
  run["result"] = {{"steps", state.step},
                   {"tokens", state.tokens},
                   {"minutes", state.seconds / 60},
                   {"best_step", state.best_step},
                   {"valid", state.best}};
  io::write_json(out + "/run.json", run);
  io::write_file(out + "/README.md", prepared.card(run));
}

}  // namespace

Tokenizer saved_or_made_tokenizer(const TrainRequest& request,
                                  const std::function<Tokenizer()>& make) {
  const std::string path = request.out + "/tokenizer.json";
  if (request.resume && fs::exists(path)) return Tokenizer::load(path);
  Tokenizer tokenizer = make();
  io::write_file(path, tokenizer.to_json());
  return tokenizer;
}

io::Json data_hashes(const TrainRequest& request) {
  const DataSection& data = request.config.data;
  return {{"train", io::hash_path(data.train)},
          {"valid", data.valid.empty() ? io::Json() : io::Json(io::hash_path(data.valid))},
          {"tokenizer", io::hash_path(request.out + "/tokenizer.json")}};
}

Selections split_off_valid(const RunConfig& c, const std::vector<std::string>& labels) {
  if (!c.data.valid.empty()) return {};
  const data::Split split = data::split_by_label(labels, c.data.valid_share, c.train.seed);
  std::vector<bool> in_valid(labels.size());
  for (const int64_t i : split.valid) in_valid[static_cast<size_t>(i)] = true;
  log_info("no --valid: " + std::to_string(split.valid.size()) + " of " +
           std::to_string(labels.size()) + " examples are set apart for it (by label, seed " +
           std::to_string(c.train.seed) + ")");
  return {[in_valid](int64_t i) { return !in_valid[static_cast<size_t>(i)]; },
          [in_valid](int64_t i) { return static_cast<bool>(in_valid[static_cast<size_t>(i)]); }};
}

int run_training(const TrainRequest& request) {
  check_request(request);
  TrainSection c = request.config.train;
  c.metric = resolve_metric(c);
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
  const Prepared prepared =
      c.task == "lm" ? prepare_language_model(request, bf16) : prepare_classifier(request, bf16);
  log_info("model: " + format_count(static_cast<double>(prepared.parameters)) +
           " parameters, attention " + prepared.attention + (bf16 ? ", bf16" : ", fp32"));

  Trainer trainer(c, *prepared.objective, request.out,
                  run_provenance(request.config, bf16, prepared.hashes));
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
  io::write_file(request.out + "/config.json", prepared.model_config);
  io::Json run = describe_run(request, prepared, bf16);
  io::write_json(run_path, run);
  catch_interrupts();
  if (trainer.run() == Outcome::kInterrupted) {
    const int signal = interrupted();
    write_result(request.out, run, prepared, trainer.state(), "interrupted");
    log_info("stopped at step " + std::to_string(trainer.state().step) +
             "; to continue: fovea train --resume --out " + request.out);
    return 128 + signal;
  }
  write_result(request.out, run, prepared, trainer.state(), "finished");
  log_info("done: " + request.out + " holds the model" +
           (c.keep_best ? " of step " + std::to_string(trainer.state().best_step) : "") +
           "; next: fovea eval --model " + request.out + " --data FILE");
  return 0;
}

}  // namespace fovea::train
