#include <algorithm>
#include <chrono>
#include <cstdio>

#include "tools/cli/module/module_commands.h"

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/data/example.h"
#include "fovea/models/language_model/generation.h"
#include "fovea/train/language_data.h"
#include "fovea/train/precision.h"
#include "fovea/train/text_data.h"

namespace fovea::cli {
namespace {

class Generator {
 public:
  Generator(train::LanguageModelFolder& folder, const io::Json& options)
      : folder_(folder),
        bf16_(train::use_bf16(options.value("precision", "fp32"))),
        data_(data_settings(folder.run, options)) {
    generation_.max_tokens = options.value("max_tokens", int64_t{128});
    generation_.end = train::end_of_text(folder.tokenizer);
    generation_.recompute = options.value("recompute", false);
    if (!folder.model->incremental() && !generation_.recompute) {
      log_info("the model computes the whole text for each token: \"" + folder.config.attention +
               "\" has a layer without cache or state");
    }
  }

  void file(const std::string& path) {
    const auto reader = data::open_examples(path, train::prompt_options(data_, kind()));
    for (data::Example example; reader->next(example);) {
      write_result(json_line(example));
      flush_results();
    }
  }

  void report() const {
    char text[120];
    std::snprintf(text, sizeof text, "%lld prompts, %lld tokens of completions, %.1f tokens/s",
                  static_cast<long long>(prompts_), static_cast<long long>(tokens_),
                  static_cast<double>(tokens_) / std::max(seconds_, 1e-9));
    log_info(text);
  }

 private:
  std::string_view kind() const { return folder_.tokenizer.kind(); }

  std::string json_line(const data::Example& example) {
    int64_t removed = 0;
    const std::vector<int32_t> prompt =
        train::encode_prompt(example, folder_.tokenizer, folder_.config.max_length, removed);
    const auto started = std::chrono::steady_clock::now();
    const train::AutocastScope autocast(bf16_);
    const auto continuation = models::continue_greedily(folder_.model, prompt, generation_);
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    ++prompts_;
    tokens_ += static_cast<int64_t>(continuation.tokens.size());
    io::Json line = io::Json::object();
    if (!example.id.empty()) line["id"] = io::Json::parse(example.id);
    line["completion"] = folder_.tokenizer.decode(continuation.tokens);
    line["tokens"] = continuation.tokens.size();
    line["finish"] = models::name_of(continuation.finish);
    line["truncated_tokens"] = removed;
    return io::dump_json(line) + "\n";
  }

  train::LanguageModelFolder& folder_;
  bool bf16_;
  train::DataSection data_;
  models::GenerationOptions generation_;
  int64_t prompts_ = 0, tokens_ = 0;
  double seconds_ = 0;
};

}  // namespace

int generate_command(const io::Json& options) {
  train::LanguageModelFolder folder = train::load_language_model(options.value("model", ""));
  Generator generator(folder, options);
  for (const auto& path : options.at("files")) generator.file(path.get<std::string>());
  generator.report();
  return 0;
}

}  // namespace fovea::cli
