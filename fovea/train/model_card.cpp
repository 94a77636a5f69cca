#include <sstream>

#include "fovea/train/model_folder.h"

namespace fovea::train {
namespace {

void about_model(std::ostringstream& out, const io::Json& run, const models::EncoderConfig& config,
                 int64_t parameters, const char* longest) {
  out << "| attention | `" << config.attention << "` |\n"
      << "| positions, position bias | `" << config.positions << "`, `" << config.position_bias
      << "` |\n"
      << "| layers, model_dim, heads | " << config.layers << ", " << config.model_dim << ", "
      << config.heads << " |\n"
      << "| " << longest << " | " << config.max_length << " tokens |\n"
      << "| parameters | " << parameters << " |\n"
      << "| precision | " << run.value("precision", "fp32") << " |\n"
      << "| seed | " << run.value("seed", uint64_t{0}) << " |\n\n";
}

void results(std::ostringstream& out, const io::Json& run) {
  out << "\nFingerprints and all settings are in `run.json`.\n";
  if (!run.contains("result") || !run["result"]["valid"].is_object()) return;
  out << "\n## Result on the validation examples\n\n| metric | value |\n|---|---:|\n";
  for (const auto& item : run["result"]["valid"].items()) {
    out << "| " << item.key() << " | " << io::dump_json(item.value()) << " |\n";
  }
  out << "\nThe validation examples chose the model (step "
      << run["result"].value("best_step", int64_t{-1})
      << "), so expect a little less on new texts.\n";
}

void data_row(std::ostringstream& out, const char* name, const io::Json& data) {
  out << "| " << name << " | " << data.value("examples", int64_t{0}) << " | "
      << data.value("tokens", int64_t{0}) << " | " << data.value("truncated", int64_t{0}) << " |\n";
}

}  // namespace

std::string model_card(const io::Json& run, const models::TextClassifierConfig& config) {
  std::ostringstream out;
  out << "# Text classifier\n\n"
      << "Made by fovea " << run["versions"].value("fovea", "") << ".\n\n"
      << "| | |\n|---|---|\n"
      << "| task | one label for each document |\n"
      << "| labels | " << config.labels.size() << " |\n";
  about_model(out, run, config, config.parameter_count(), "longest document");
  out << "## Labels\n\n| label | training examples |\n|---|---:|\n";
  const io::Json& counts = run["data"]["train"]["labels"];
  for (const std::string& label : config.labels) {
    out << "| " << label << " | " << counts.value(label, int64_t{0}) << " |\n";
  }
  out << "\n## Data\n\n| part | examples | tokens | truncated examples |\n|---|---:|---:|---:|\n";
  data_row(out, "train", run["data"]["train"]);
  data_row(out, "valid", run["data"]["valid"]);
  results(out, run);
  out << "\n## Use\n\n```\nfovea predict --model . < texts.txt > labels.jsonl\n"
      << "fovea eval --model . --data examples.jsonl --json\n```\n";
  return out.str();
}

std::string model_card(const io::Json& run, const models::LanguageModelConfig& config) {
  std::ostringstream out;
  out << "# Language model\n\n"
      << "Made by fovea " << run["versions"].value("fovea", "") << ".\n\n"
      << "| | |\n|---|---|\n"
      << "| task | the next token of a text |\n"
      << "| vocabulary | " << config.vocab_size << " tokens |\n";
  about_model(out, run, config, config.parameter_count(), "longest piece of text");
  out << "## Data\n\n| part | texts | pieces | tokens to predict |\n|---|---:|---:|---:|\n";
  for (const char* part : {"train", "valid"}) {
    const io::Json& data = run["data"][part];
    out << "| " << part << " | " << data.value("documents", int64_t{0}) << " | "
        << data.value("pieces", int64_t{0}) << " | " << data.value("targets", int64_t{0}) << " |\n";
  }
  results(out, run);
  out << "\n## Use\n\n```\nfovea eval --model . --data texts.txt --json\n```\n";
  return out.str();
}

}  // namespace fovea::train
