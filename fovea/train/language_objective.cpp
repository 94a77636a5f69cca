#include "fovea/train/language_objective.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/log_softmax.h>
#include <c10/core/GradMode.h>

#include "fovea/nn/checkpoint.h"
#include "fovea/train/batching.h"
#include "fovea/train/precision.h"
#include "fovea/train/progress.h"
#include "fovea/train/weights.h"

namespace fovea::train {
namespace {

// Logits that exist at a time: 64 MiB. A pass over a large vocabulary would need gigabytes.
constexpr int64_t kLogits = int64_t{1} << 24;

// A pass: the packed pieces, the rows of their features whose next token is a target, and those
// tokens.
struct Pass {
  models::PackedBatch batch;
  at::Tensor rows;     // int64 [R]
  at::Tensor targets;  // int64 [R]
};

Pass make_pass(const LanguageExamples& examples, std::span<const int64_t> pieces) {
  Pass pass{examples.pieces.pack(pieces), {}, {}};
  int64_t count = 0;
  for (const int64_t piece : pieces) count += examples.targets_of(piece);
  pass.rows = at::empty({count}, at::kLong);
  int64_t* row = pass.rows.mutable_data_ptr<int64_t>();
  int64_t begin = 0;
  for (const int64_t piece : pieces) {
    const int64_t end = begin + examples.pieces.lengths()[static_cast<size_t>(piece)];
    for (int64_t t = begin + examples.pieces.label(piece); t < end; ++t) *row++ = t - 1;
    begin = end;
  }
  pass.targets = pass.batch.tokens.index_select(0, pass.rows + 1);
  return pass;
}

// Calls body(features, targets) for runs of rows whose logits fit in kLogits.
template <typename Body>
void for_each_run(const at::Tensor& features, const at::Tensor& targets, int64_t vocab_size,
                  Body&& body) {
  const int64_t rows = std::max<int64_t>(kLogits / vocab_size, 1);
  const std::vector<at::Tensor> x = features.split(rows), t = targets.split(rows);
  for (size_t i = 0; i < x.size(); ++i) body(x[i], t[i], x.size() > 1);
}

}  // namespace

NamedTensors LanguageObjective::parameters() { return named_parameters(*model_); }

at::Tensor LanguageObjective::loss(std::span<const int64_t> examples) {
  model_->train();
  const Pass pass = make_pass(train_, examples);
  const AutocastScope autocast(bf16_);
  const at::Tensor features = model_->features(pass.batch).index_select(0, pass.rows);
  at::Tensor sum;
  const auto add = [&](const at::Tensor& x, const at::Tensor& t, bool several) {
    const auto loss_of = [=, model = model_, smoothing = label_smoothing_](const at::Tensor& rows) {
      return at::cross_entropy_loss(model->logits(rows).to(at::kFloat), t, {}, at::Reduction::Sum,
                                    -100, smoothing);
    };
    // Several runs: none keeps its logits for the backward.
    const at::Tensor part =
        several ? nn::checkpoint(loss_of, x, {model_->output_weight()}) : loss_of(x);
    sum = sum.defined() ? sum + part : part;
  };
  for_each_run(features, pass.targets, model_->config().vocab_size, add);
  return sum;
}

io::Json LanguageObjective::evaluate(int64_t micro_tokens) {
  return train::evaluate(model_, valid_, micro_tokens, bf16_).to_json();
}

io::Json LanguageEvaluation::to_json() const {
  const double count = static_cast<double>(std::max<int64_t>(targets, 1));
  const double loss = loss_sum / count;
  io::Json json = {{"loss", loss},
                   {"perplexity", std::exp(loss)},
                   {"accuracy", static_cast<double>(correct) / count}};
  if (bytes > 0) {
    json["bits_per_byte"] = loss_sum / std::log(2.0) / static_cast<double>(bytes);
  }
  json["targets"] = targets;
  json["documents"] = documents;
  json["pieces"] = pieces;
  json["tokens"] = tokens;
  return json;
}

LanguageEvaluation evaluate(models::LanguageModel& model, const LanguageExamples& examples,
                            int64_t micro_tokens, bool bf16) {
  const at::NoGradGuard no_grad;
  model->eval();
  const AutocastScope autocast(bf16);
  LanguageEvaluation result;
  result.targets = examples.targets;
  result.documents = examples.documents;
  result.pieces = examples.pieces.size();
  result.tokens = examples.pieces.tokens();
  result.bytes = examples.bytes;
  Progress progress("evaluating", static_cast<double>(result.tokens));
  const auto add = [&](const at::Tensor& x, const at::Tensor& t, bool) {
    const at::Tensor log_p = at::log_softmax(model->logits(x).to(at::kFloat), -1);
    result.loss_sum -= log_p.gather(1, t.unsqueeze(1)).sum(at::kDouble).item<double>();
    result.correct += log_p.argmax(1).eq(t).sum().item<int64_t>();
  };
  double done = 0;
  for (const auto& pieces : plan_evaluation(examples.pieces.lengths(), micro_tokens)) {
    const Pass pass = make_pass(examples, pieces);
    const at::Tensor features = model->features(pass.batch).index_select(0, pass.rows);
    for_each_run(features, pass.targets, model->config().vocab_size, add);
    done += static_cast<double>(pass.batch.tokens.numel());
    progress.update(done, "");
  }
  return result;
}

std::string describe_language_metrics(const io::Json& m) {
  char text[200];
  int n = std::snprintf(text, sizeof text, "loss %.4f, perplexity %.2f, token accuracy %.4f",
                        m.value("loss", 0.0), m.value("perplexity", 0.0), m.value("accuracy", 0.0));
  if (m.contains("bits_per_byte")) {
    std::snprintf(text + n, sizeof text - static_cast<size_t>(n), ", bits per byte %.4f",
                  m.value("bits_per_byte", 0.0));
  }
  return text;
}

}  // namespace fovea::train
