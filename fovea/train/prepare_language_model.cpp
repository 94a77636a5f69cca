#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/train/language_objective.h"
#include "fovea/train/model_folder.h"
#include "fovea/train/prepare.h"
#include "fovea/train/progress.h"

namespace fovea::train {
namespace {

io::Json describe(const std::string& path, const LanguageExamples& examples) {
  return {{"path", path},
          {"documents", examples.documents},
          {"pieces", examples.pieces.size()},
          {"tokens", examples.pieces.tokens()},
          {"targets", examples.targets},
          {"cut", examples.cut},
          {"unused_tokens", examples.unused_tokens}};
}

void tell(const std::string& name, const LanguageExamples& examples, int64_t max_length) {
  std::string text = name + ": " + std::to_string(examples.documents) + " texts, " +
                     format_count(static_cast<double>(examples.targets)) + " tokens to predict";
  if (examples.cut > 0) {
    text += "; " + std::to_string(examples.cut) + " longer than " + std::to_string(max_length) +
            " tokens are cut, " + std::to_string(examples.pieces.size()) + " pieces in all";
  }
  if (examples.unused_tokens > 0) {
    text += "; " + format_count(static_cast<double>(examples.unused_tokens)) +
            " tokens of long prompts are left out: nothing in their piece is to be predicted";
  }
  log_info(text);
}

int64_t count_examples(const std::string& path, const data::DataOptions& options) {
  const auto reader = data::open_examples(path, options);
  int64_t count = 0;
  for (data::Example example; reader->next(example);) ++count;
  return count;
}

// The selected texts of the training file, prompts and completions as two.
TextSource texts_of(const RunConfig& c, const LanguageReading& reading, const Selection& selected) {
  std::shared_ptr<data::ExampleReader> reader = data::open_examples(c.data.train, reading.options);
  return [reader, selected, completions = reading.completions, number = int64_t{0},
          pending = std::string()](std::string& text) mutable {
    if (!pending.empty()) {
      text = std::move(pending);
      pending.clear();
      return true;
    }
    for (data::Example example; reader->next(example);) {
      if (selected && !selected(number++)) continue;
      text.swap(example.text);
      if (completions) pending.swap(example.label);
      return true;
    }
    return false;
  };
}

}  // namespace

Prepared prepare_language_model(const TrainRequest& request, bool bf16) {
  const RunConfig& c = request.config;
  const std::string kind = tokenizer_kind(c.tokenizer);
  const std::string valid_path = c.data.valid.empty() ? c.data.train : c.data.valid;
  const LanguageReading reading = language_reading(c.data.train, c.data, kind);
  const LanguageReading valid_reading = language_reading(valid_path, c.data, kind);
  Selections selected;
  if (c.data.valid.empty()) {
    const int64_t count = count_examples(c.data.train, reading.options);
    if (count < 2) {
      throw InputError(c.data.train +
                       ": expected at least two texts, one of them to validate on, " + "found " +
                       std::to_string(count) + "; give --valid FILE or more texts");
    }
    selected = split_off_valid(c, std::vector<std::string>(static_cast<size_t>(count)));
  }
  const Tokenizer tokenizer = saved_or_made_tokenizer(request, [&] {
    return make_tokenizer(c.tokenizer, c.data.train, texts_of(c, reading, selected.train),
                          {kEndOfText});
  });
  if (!end_of_text(tokenizer)) {
    log_warning("the tokenizer has no end-of-text token (such as " + std::string(kEndOfText) +
                "): where a text ends is not learned, nor its first token");
  }
  const models::LanguageModelConfig config = resolve_language_model(c, tokenizer.vocab_size());
  LanguageExamples train = encode_texts(c.data.train, reading, tokenizer, config, selected.train);
  LanguageExamples valid =
      encode_texts(valid_path, valid_reading, tokenizer, config, selected.valid);
  if (reading.completions) {
    log_info(c.data.train + ": prompts and completions; the loss is that of the completions");
  }
  tell("train", train, config.max_length);
  tell("valid", valid, config.max_length);

  Prepared prepared;
  prepared.model_config = config.to_json();
  prepared.attention = config.attention;
  prepared.parameters = config.parameter_count();
  prepared.hashes = data_hashes(request);
  prepared.data = {{"train", describe(c.data.train, train)},
                   {"valid", describe(valid_path, valid)},
                   {"hashes", prepared.hashes}};
  prepared.card = [config](const io::Json& run) { return model_card(run, config); };
  models::LanguageModel model = make_model(config, c.train.seed);
  if (!c.train.init.empty()) start_from(c.train.init, model);
  prepared.objective = std::make_unique<LanguageObjective>(
      model, std::move(train), std::move(valid), bf16, c.train.label_smoothing);
  return prepared;
}

}  // namespace fovea::train
