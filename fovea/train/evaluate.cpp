#include "fovea/train/evaluate.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <ATen/ops/log_softmax.h>
#include <ATen/ops/softmax.h>
#include <c10/core/GradMode.h>

#include "fovea/train/batching.h"
#include "fovea/train/precision.h"
#include "fovea/train/progress.h"

namespace fovea::train {
namespace {

at::Tensor logits_of(models::TextClassifier& model, const models::PackedBatch& batch, bool bf16) {
  const AutocastScope autocast(bf16);
  return model->forward(batch).to(at::kFloat);
}

}  // namespace

io::Json Evaluation::to_json() const {
  return {{"accuracy", confusion.accuracy()},
          {"macro_f1", confusion.macro_f1()},
          {"micro_f1", confusion.micro_f1()},
          {"mcc", confusion.mcc()},
          {"loss", loss},
          {"examples", examples},
          {"truncated", truncated}};
}

at::Tensor predict_probabilities(models::TextClassifier& model, const models::PackedBatch& batch,
                                 bool bf16) {
  const at::NoGradGuard no_grad;
  model->eval();
  return at::softmax(logits_of(model, batch, bf16), -1).contiguous();
}

Evaluation evaluate(models::TextClassifier& model, const Examples& examples, int64_t micro_tokens,
                    bool bf16) {
  const at::NoGradGuard no_grad;
  model->eval();
  const int64_t classes = static_cast<int64_t>(model->config().labels.size());
  Evaluation result{ConfusionMatrix(classes), 0, examples.size(), examples.truncated()};
  Progress progress("evaluating", static_cast<double>(examples.tokens()));
  double loss = 0, done = 0;
  for (const auto& pass : plan_evaluation(examples.lengths(), micro_tokens)) {
    const models::PackedBatch batch = examples.pack(pass);
    const at::Tensor log_p = at::log_softmax(logits_of(model, batch, bf16), -1).contiguous();
    const float* row = log_p.const_data_ptr<float>();
    for (const int64_t example : pass) {
      const int64_t truth = examples.label(example);
      result.confusion.add(truth, std::max_element(row, row + classes) - row);
      loss -= row[truth];
      row += classes;
    }
    done += static_cast<double>(batch.tokens.numel());
    progress.update(done, "");
  }
  result.loss = examples.size() > 0 ? loss / static_cast<double>(examples.size()) : 0;
  return result;
}

std::string report(const ConfusionMatrix& confusion, const std::vector<std::string>& labels) {
  size_t width = 5;
  for (const std::string& label : labels) width = std::max(width, label.size());
  width = std::min<size_t>(width, 30);
  const auto cell = [&](const std::string& label) {
    std::string text = label.substr(0, width);
    return text + std::string(width - text.size(), ' ');
  };
  char line[160];
  std::string text = cell("label") + "  precision  recall      F1  examples\n";
  for (int64_t c = 0; c < confusion.classes(); ++c) {
    std::snprintf(line, sizeof line, "  %9.4f  %6.4f  %6.4f  %8lld\n", confusion.precision(c),
                  confusion.recall(c), confusion.f1(c),
                  static_cast<long long>(confusion.true_count(c)));
    text += cell(labels[static_cast<size_t>(c)]) + line;
  }
  if (confusion.classes() > 20) return text;
  text += "confusion (row: truth, column: prediction, in the order above)\n";
  for (int64_t t = 0; t < confusion.classes(); ++t) {
    text += cell(labels[static_cast<size_t>(t)]);
    for (int64_t p = 0; p < confusion.classes(); ++p) {
      std::snprintf(line, sizeof line, " %6lld", static_cast<long long>(confusion.at(t, p)));
      text += line;
    }
    text += '\n';
  }
  return text;
}

}  // namespace fovea::train
