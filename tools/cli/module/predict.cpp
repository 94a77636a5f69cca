#include <algorithm>
#include <cmath>

#include "tools/cli/module/module_commands.h"
#include <ATen/core/Tensor.h>

#include "fovea/core/parallel.h"
#include "fovea/data/example.h"
#include "fovea/train/batching.h"
#include "fovea/train/classifier_data.h"
#include "fovea/train/evaluate.h"
#include "fovea/train/precision.h"

namespace fovea::cli {
namespace {

class Predictor {
 public:
  Predictor(train::ClassifierFolder& folder, const io::Json& options)
      : folder_(folder),
        bf16_(train::use_bf16(options.value("precision", "fp32"))),
        batch_tokens_(options.value("batch_tokens", int64_t{16384})),
        batch_examples_(options.value("batch_examples", size_t{256})),
        data_(data_settings(folder.run, options)),
        truncate_(train::parse_truncate(data_.truncate)) {}

  void file(const std::string& path) {
    data::DataOptions reading = train::reader_options(data_, folder_.tokenizer.kind());
    reading.require_label = false;
    const auto reader = data::open_examples(path, reading);
    std::vector<data::Example> examples;
    size_t bytes = 0;
    const auto next = [&](data::Example& example) {
      try {
        return reader->next(example);
      } catch (...) {
        label(examples);  // what was read before the fault has its answers
        throw;
      }
    };
    for (data::Example example; next(example);) {
      bytes += example.text.size();
      examples.push_back(std::move(example));
      if (examples.size() >= batch_examples_ || bytes >= kBatchBytes) {
        label(examples);
        examples.clear();
        bytes = 0;
      }
    }
    label(examples);
  }

 private:
  static constexpr size_t kBatchBytes = 16u << 20;

  void label(const std::vector<data::Example>& examples) {
    const size_t n = examples.size();
    std::vector<std::vector<int32_t>> ids(n);
    std::vector<int64_t> removed(n);
    parallel_for(static_cast<int64_t>(n), [&](int64_t i, int) {
      const auto k = static_cast<size_t>(i);
      const std::string where = examples[k].file + ":" + std::to_string(examples[k].line);
      ids[k] = train::encode_text(folder_.tokenizer, examples[k].text, folder_.config.max_length,
                                  truncate_, where, removed[k]);
    });
    std::vector<int32_t> lengths;
    for (const auto& document : ids) lengths.push_back(static_cast<int32_t>(document.size()));
    std::vector<std::string> lines(n);
    for (const std::vector<int64_t>& pass : train::plan_evaluation(lengths, batch_tokens_)) {
      std::vector<std::vector<int32_t>> documents;
      for (const int64_t i : pass) documents.push_back(std::move(ids[static_cast<size_t>(i)]));
      const at::Tensor p =
          train::predict_probabilities(folder_.model, train::pack_ids(documents), bf16_);
      const float* row = p.const_data_ptr<float>();
      for (const int64_t i : pass) {
        const auto k = static_cast<size_t>(i);
        lines[k] = json_line(examples[k], {row, folder_.config.labels.size()}, removed[k]);
        row += folder_.config.labels.size();
      }
    }
    for (const std::string& line : lines) write_result(line);
    flush_results();
  }

  std::string json_line(const data::Example& example, std::span<const float> probabilities,
                        int64_t removed) const {
    io::Json line = io::Json::object();
    if (!example.id.empty()) line["id"] = io::Json::parse(example.id);
    const std::vector<std::string>& labels = folder_.config.labels;
    const auto best = std::max_element(probabilities.begin(), probabilities.end());
    line["label"] = labels[static_cast<size_t>(best - probabilities.begin())];
    io::Json& all = line["probabilities"] = io::Json::object();
    for (size_t c = 0; c < labels.size(); ++c) {
      all[labels[c]] = std::round(double{probabilities[c]} * 1e6) / 1e6;
    }
    line["truncated_tokens"] = removed;
    return io::dump_json(line) + "\n";
  }

  train::ClassifierFolder& folder_;
  bool bf16_;
  int64_t batch_tokens_;
  size_t batch_examples_;
  train::DataSection data_;
  train::Truncate truncate_;
};

}  // namespace

int predict_command(const io::Json& options) {
  train::ClassifierFolder folder = train::load_classifier(options.value("model", ""));
  Predictor predictor(folder, options);
  for (const auto& path : options.at("files")) predictor.file(path.get<std::string>());
  return 0;
}

}  // namespace fovea::cli
