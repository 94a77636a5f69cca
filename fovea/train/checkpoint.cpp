#include "fovea/train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <mutex>

#include <ATen/CPUGeneratorImpl.h>

#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"
#include "fovea/train/weights.h"

namespace fovea::train {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFormatVersion = 1;
constexpr const char* kPrefix = "step-";
constexpr const char* kRemovedPrefix = "removed-";

at::Tensor random_state() {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  return generator.get_state();
}

void set_random_state(const at::Tensor& state) {
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard lock(generator.mutex());
  generator.set_state(state);
}

NamedTensors with_random_state(NamedTensors tensors, const at::Tensor& random) {
  tensors.emplace_back("random_state", random);
  return tensors;
}

}  // namespace

io::Json TrainingState::to_json() const {
  return {{"step", step},
          {"epoch", epoch},
          {"batch", batch},
          {"tokens", tokens},
          {"seconds", seconds},
          {"best_step", best_step},
          {"best", best},
          {"evaluations_since_best", evaluations_since_best},
          {"finished", finished},
          {"window_loss", window_loss},
          {"window_examples", window_targets}};
}

TrainingState TrainingState::from_json(const io::Json& json, const std::string& name) {
  TrainingState s;
  s.step = io::json_field<int64_t>(json, "step", name);
  s.epoch = io::json_field<int64_t>(json, "epoch", name);
  s.batch = io::json_field<int64_t>(json, "batch", name);
  s.tokens = io::json_field<int64_t>(json, "tokens", name);
  s.seconds = io::json_field<double>(json, "seconds", name);
  s.best_step = io::json_field<int64_t>(json, "best_step", name);
  if (json.contains("best")) s.best = json["best"];
  s.evaluations_since_best = io::json_field<int64_t>(json, "evaluations_since_best", name);
  s.finished = io::json_field<bool>(json, "finished", name);
  s.window_loss = io::json_field<double>(json, "window_loss", name);
  s.window_targets = io::json_field<int64_t>(json, "window_examples", name);
  return s;
}

Checkpoints::Checkpoints(std::string folder) : folder_(std::move(folder)) {
  if (!fs::is_directory(folder_)) return;
  io::remove_stale_temporaries(folder_);
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    if (entry.path().filename().string().starts_with(kRemovedPrefix)) {
      fs::remove_all(entry.path(), ignored);
    }
  }
}

std::vector<int64_t> Checkpoints::steps() const {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kPrefix)) continue;
    int64_t step = 0;
    const char* end = name.data() + name.size();
    const auto [last, status] = std::from_chars(name.data() + 5, end, step);
    if (status == std::errc() && last == end) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::string Checkpoints::newest() const {
  const std::vector<int64_t> all = steps();
  return all.empty() ? "" : folder_ + "/" + kPrefix + std::to_string(all.back());
}

void Checkpoints::save(const TrainingState& state, const NamedTensors& weights,
                       const NamedTensors& optimizer, const std::string& best_weights,
                       const io::Json& provenance, int64_t keep) {
  io::make_directories(folder_);
  io::AtomicDirectory out(folder_ + "/" + kPrefix + std::to_string(state.step));
  save_tensors(out.staging() + "/model.safetensors", weights);
  save_tensors(out.staging() + "/optimizer.safetensors",
               with_random_state(optimizer, random_state()));
  if (!best_weights.empty()) {
    // The best weights are replaced by rename, never written in place: a link keeps these bytes.
    std::error_code error;
    const std::string copy = out.staging() + "/best.safetensors";
    fs::create_hard_link(best_weights, copy, error);
    if (error) fs::copy_file(best_weights, copy, error);
    if (error) {
      throw Error(ErrorCode::kFailed, copy + ": cannot be written: " + error.message());
    }
  }
  io::write_json(
      out.staging() + "/state.json",
      {{"format_version", kFormatVersion}, {"state", state.to_json()}, {"provenance", provenance}});
  out.commit();
  const std::vector<int64_t> all = steps();
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); ++i) {
    std::error_code ignored;
    // Renamed first: a half-removed checkpoint must not look like a whole one.
    const std::string old = folder_ + "/" + kPrefix + std::to_string(all[i]);
    const std::string trash = folder_ + "/" + kRemovedPrefix + std::to_string(all[i]);
    fs::rename(old, trash, ignored);
    fs::remove_all(trash, ignored);
  }
}

StoredState read_state(const std::string& checkpoint) {
  const std::string name = checkpoint + "/state.json";
  const io::Json json = io::read_json(name);
  if (const auto version = io::json_field<int64_t>(json, "format_version", name);
      version > kFormatVersion) {
    throw InputError(name + ": format_version " + std::to_string(version) +
                     " is newer than this program's " + std::to_string(kFormatVersion) +
                     "; update fovea");
  }
  if (!json.contains("state") || !json["state"].is_object() || !json.contains("provenance")) {
    throw InputError(name + ": expected the objects \"state\" and \"provenance\"");
  }
  return {TrainingState::from_json(json["state"], name), json["provenance"]};
}

void load_checkpoint_tensors(const std::string& checkpoint, const NamedTensors& weights,
                             const NamedTensors& optimizer) {
  load_tensors(checkpoint + "/model.safetensors", weights);
  const at::Tensor random = random_state();
  load_tensors(checkpoint + "/optimizer.safetensors", with_random_state(optimizer, random));
  set_random_state(random);
}

std::vector<std::string> differences(const io::Json& then, const io::Json& now,
                                     const std::string& prefix) {
  std::vector<std::string> lines;
  const auto compare = [&](const std::string& key) {
    const io::Json a = then.contains(key) ? then[key] : io::Json();
    const io::Json b = now.contains(key) ? now[key] : io::Json();
    if (a == b) return;
    const std::string name = prefix.empty() ? key : prefix + "." + key;
    if (a.is_object() && b.is_object()) {
      for (std::string& line : differences(a, b, name)) lines.push_back(std::move(line));
    } else {
      lines.push_back(name + ": then " + io::dump_json(a) + ", now " + io::dump_json(b));
    }
  };
  for (const auto& item : now.items()) compare(item.key());
  for (const auto& item : then.items()) {
    if (!now.contains(item.key())) compare(item.key());
  }
  return lines;
}

}  // namespace fovea::train
