#include <algorithm>

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/train/classifier_data.h"
#include "fovea/train/classifier_objective.h"
#include "fovea/train/model_folder.h"
#include "fovea/train/prepare.h"
#include "fovea/train/progress.h"

namespace fovea::train {
namespace {

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

// The selected texts of the training file.
TextSource texts_of(const RunConfig& c, const data::DataOptions& options,
                    const Selection& selected) {
  std::shared_ptr<data::ExampleReader> reader = data::open_examples(c.data.train, options);
  return [reader, selected, number = int64_t{0}](std::string& text) mutable {
    for (data::Example example; reader->next(example);) {
      if (selected && !selected(number++)) continue;
      text.swap(example.text);
      return true;
    }
    return false;
  };
}

}  // namespace

Prepared prepare_classifier(const TrainRequest& request, bool bf16) {
  const RunConfig& c = request.config;
  const data::DataOptions options = reader_options(c.data, tokenizer_kind(c.tokenizer));
  const Truncate truncate = parse_truncate(c.data.truncate);
  const std::vector<std::string> all_labels = read_labels(c.data.train, options);
  const std::vector<std::string> labels = distinct_labels(all_labels, c.data.train);
  const Selections selected = split_off_valid(c, all_labels);

  const Tokenizer tokenizer = saved_or_made_tokenizer(request, [&] {
    return make_tokenizer(c.tokenizer, c.data.train, texts_of(c, options, selected.train));
  });
  const models::TextClassifierConfig config = resolve_model(c, tokenizer.vocab_size(), labels);
  const std::string valid_path = c.data.valid.empty() ? c.data.train : c.data.valid;
  Examples train =
      encode_examples(c.data.train, options, tokenizer, config, truncate, selected.train);
  Examples valid =
      encode_examples(valid_path, options, tokenizer, config, truncate, selected.valid);
  tell("train", train, config.max_length);
  tell("valid", valid, config.max_length);
  if (valid.size() == 0) {
    throw InputError(valid_path +
                     ": expected examples to validate on, found none; a label with a single " +
                     "example leaves none to be set apart, so give --valid FILE or more examples");
  }

  Prepared prepared;
  prepared.model_config = config.to_json();
  prepared.attention = config.attention;
  prepared.parameters = config.parameter_count();
  prepared.hashes = data_hashes(request);
  prepared.data = {{"train", describe(c.data.train, train, config)},
                   {"valid", describe(c.data.valid, valid, config)},
                   {"hashes", prepared.hashes}};
  prepared.card = [config](const io::Json& run) { return model_card(run, config); };
  models::TextClassifier model = make_model(config, c.train.seed);
  if (!c.train.init.empty() && !start_from(c.train.init, model)) {
    log_info("the labels are not those of " + c.train.init + ": the classifier starts anew");
  }
  prepared.objective = std::make_unique<ClassifierObjective>(
      model, std::move(train), std::move(valid), bf16, c.train.label_smoothing);
  return prepared;
}

}  // namespace fovea::train
