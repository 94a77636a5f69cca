#include <cstdio>

#include "tools/cli/module/module_commands.h"

#include "fovea/core/log.h"
#include "fovea/train/classifier_data.h"
#include "fovea/train/evaluate.h"
#include "fovea/train/language_objective.h"
#include "fovea/train/precision.h"

namespace fovea::cli {

namespace {

int eval_classifier(const io::Json& options) {
  train::ClassifierFolder folder = train::load_classifier(options.value("model", ""));
  const bool bf16 = train::use_bf16(options.value("precision", "fp32"));
  const train::DataSection data = data_settings(folder.run, options);
  const train::Examples examples = train::encode_examples(
      options.value("data", ""), train::reader_options(data, folder.tokenizer.kind()),
      folder.tokenizer, folder.config, train::parse_truncate(data.truncate), nullptr);
  const train::Evaluation evaluation =
      train::evaluate(folder.model, examples, options.value("batch_tokens", int64_t{16384}), bf16);
  if (examples.truncated() > 0) {
    log_info(std::to_string(examples.truncated()) + " of " + std::to_string(examples.size()) +
             " examples were cut to " + std::to_string(folder.config.max_length) + " tokens");
  }
  if (options.value("json", false)) {
    write_result(io::dump_json(evaluation.to_json()) + "\n");
    return 0;
  }
  char line[200];
  std::snprintf(line, sizeof line,
                "examples %lld (%lld truncated)\naccuracy %.4f\nmacro F1 %.4f\nmicro F1 %.4f\n"
                "MCC      %.4f\nloss     %.4f\n\n",
                static_cast<long long>(evaluation.examples),
                static_cast<long long>(evaluation.truncated), evaluation.confusion.accuracy(),
                evaluation.confusion.macro_f1(), evaluation.confusion.micro_f1(),
                evaluation.confusion.mcc(), evaluation.loss);
  write_result(line + train::report(evaluation.confusion, folder.config.labels));
  return 0;
}

int eval_language_model(const io::Json& options) {
  train::LanguageModelFolder folder = train::load_language_model(options.value("model", ""));
  const bool bf16 = train::use_bf16(options.value("precision", "fp32"));
  const std::string path = options.value("data", "");
  const train::LanguageReading reading =
      train::language_reading(path, data_settings(folder.run, options), folder.tokenizer.kind());
  const train::LanguageExamples examples =
      train::encode_texts(path, reading, folder.tokenizer, folder.config, nullptr);
  if (examples.cut > 0) {
    log_info(std::to_string(examples.cut) + " of " + std::to_string(examples.documents) +
             " texts were cut into pieces of " + std::to_string(folder.config.max_length) +
             " tokens");
  }
  const io::Json metrics =
      train::evaluate(folder.model, examples, options.value("batch_tokens", int64_t{16384}), bf16)
          .to_json();
  if (options.value("json", false)) {
    write_result(io::dump_json(metrics) + "\n");
    return 0;
  }
  for (const auto& item : metrics.items()) {
    const std::string& name = item.key();
    write_result(name + std::string(name.size() < 16 ? 16 - name.size() : 1, ' ') +
                 io::dump_json(item.value()) + "\n");
  }
  return 0;
}

}  // namespace

int eval_command(const io::Json& options) {
  const bool language = train::model_type_of_folder(options.value("model", "")) ==
                        models::LanguageModelConfig::kModelType;
  return language ? eval_language_model(options) : eval_classifier(options);
}

}  // namespace fovea::cli
