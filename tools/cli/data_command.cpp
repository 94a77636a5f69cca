// fovea data check|baseline|listops|recall|sequences|sources: looks at data sets and makes them.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/cli/commands.h"

#include "fovea/core/log.h"
#include "fovea/core/status.h"
#include "fovea/data/check.h"
#include "fovea/data/example.h"
#include "fovea/data/listops.h"
#include "fovea/data/naive_bayes.h"
#include "fovea/data/recall.h"
#include "fovea/data/sequences.h"
#include "fovea/data/sources.h"
#include "fovea/io/atomic_file.h"
#include "fovea/io/json.h"
#include "fovea/text/tokenizer.h"

namespace fovea::cli {
namespace {

// The options that say how files are to be read, named as in `fovea train`.
struct ReadOptions {
  std::string format = "auto", encoding_errors = "strict";
  data::DataOptions data;

  void add_to(CLI::App* command) {
    command->add_option("--data.format", format,
                        "auto, jsonl, tsv, csv, labelled, text, folder (default: auto)");
    command->add_option("--data.text", data.text_fields, "Fields that make the text")
        ->delimiter(',');
    command->add_option("--data.label", data.label_field, "Field of the label");
    command->add_option("--data.columns", data.columns, "Names of all columns of TSV or CSV")
        ->delimiter(',');
    command->add_option("--encoding-errors", encoding_errors,
                        "Text that is not UTF-8: strict, replace, bytes (default: strict)");
  }

  data::DataOptions get() const {
    data::DataOptions options = data;
    options.format = data::parse_format(format);
    options.encoding_errors = data::parse_encoding_errors(encoding_errors);
    return options;
  }
};

void add_check(CLI::App& data_command) {
  struct Options {
    ReadOptions read;
    std::string train, valid, tokenizer;
    int64_t max_length = 0;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = data_command.add_subcommand(
      "check", "Report counts, lengths, labels, duplicates and faults before a long run");
  command->add_option("--train", options->train, "Training examples")->required();
  command->add_option("--valid", options->valid, "Validation examples");
  command->add_option("--tokenizer", options->tokenizer,
                      "tokenizer.json, for lengths in tokens; `bytes` for one token a byte");
  command->add_option("--max-length", options->max_length, "Tokens kept of a text")
      ->check(CLI::PositiveNumber);
  command->add_flag("--json", options->json, "Print one JSON object");
  options->read.add_to(command);
  command->callback([options] {
    std::optional<Tokenizer> tokenizer;
    if (options->tokenizer == "bytes") {
      tokenizer = Tokenizer::byte_level();
    } else if (!options->tokenizer.empty()) {
      tokenizer = Tokenizer::load(options->tokenizer);
    }
    std::vector<std::string> paths = {options->train};
    if (!options->valid.empty()) paths.push_back(options->valid);
    const data::DataReport report = data::check_data(
        paths, options->read.get(), tokenizer ? &*tokenizer : nullptr, options->max_length);
    const std::string out =
        options->json ? io::dump_json(to_json(report)) + "\n" : data::to_text(report);
    std::fputs(out.c_str(), stdout);
    if (!report.usable()) set_exit_code(exit_code(ErrorCode::kInvalidInput));
  });
}

void run_baseline(const ReadOptions& read, const std::string& train, const std::string& test,
                  const data::NaiveBayesOptions& options, bool json) {
  data::NaiveBayes model(options);
  data::Example example;
  for (const auto reader = open_examples(train, read.get()); reader->next(example);) {
    model.add(example.text, example.label);
  }
  model.finish();
  std::vector<std::string> truth, predicted;
  for (const auto reader = open_examples(test, read.get()); reader->next(example);) {
    predicted.push_back(model.predict(example.text));
    truth.push_back(example.label);
  }
  const data::Scores scores = data::score(truth, predicted);
  if (json) {
    const io::Json out = {{"accuracy", scores.accuracy},
                          {"macro_f1", scores.macro_f1},
                          {"examples", scores.examples}};
    std::printf("%s\n", io::dump_json(out).c_str());
  } else {
    std::printf("accuracy %.4f, macro-F1 %.4f, %lld examples\n", scores.accuracy, scores.macro_f1,
                static_cast<long long>(scores.examples));
  }
}

void add_baseline(CLI::App& data_command) {
  struct Options {
    ReadOptions read;
    std::string train, test, features = "words";
    int ngrams = 0;
    double smoothing = 0;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = data_command.add_subcommand(
      "baseline", "Score naive Bayes over n-grams: what a model has to beat");
  command->add_option("--train", options->train, "Training examples")->required();
  command->add_option("--test", options->test, "Examples to score")->required();
  command->add_option("--features", options->features, "words or bytes (default: words)")
      ->check(CLI::IsMember({"words", "bytes"}));
  command->add_option("--ngrams", options->ngrams, "Longest n-gram (default: 2 words, 4 bytes)");
  command->add_option("--smoothing", options->smoothing,
                      "Added to every count (default: 1 for words, 0.1 for bytes)");
  command->add_flag("--json", options->json, "Print one JSON object");
  options->read.add_to(command);
  command->callback([options] {
    const bool bytes = options->features == "bytes";
    data::NaiveBayesOptions model;
    model.features = bytes ? data::NaiveBayesOptions::Features::kBytes
                           : data::NaiveBayesOptions::Features::kWords;
    model.ngrams = options->ngrams > 0 ? options->ngrams : (bytes ? 4 : 2);
    model.smoothing = options->smoothing > 0 ? options->smoothing : (bytes ? 0.1 : 1.0);
    run_baseline(options->read, options->train, options->test, model, options->json);
  });
}

void write_example(io::AtomicFile& file, const std::string& text, const std::string& label) {
  file.write(io::dump_json({{"text", text}, {"label", label}}) + "\n");
}

void add_listops(CLI::App& data_command) {
  struct Options {
    data::ListOpsOptions listops;
    std::string out;
    int64_t count = 0;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = data_command.add_subcommand(
      "listops", "Write ListOps expressions by the rules of the Long Range Arena");
  data::ListOpsOptions& listops = options->listops;
  command->add_option("--out", options->out, "JSONL file to write")->required();
  command->add_option("--count", options->count, "Expressions")
      ->required()
      ->check(CLI::PositiveNumber);
  command->add_option("--min-length", listops.min_length, "Tokens; all are longer (500)");
  command->add_option("--max-length", listops.max_length, "Tokens; all are shorter (2000)");
  command->add_option("--max-depth", listops.max_depth, "Depth of the digits at the bottom (10)");
  command->add_option("--max-args", listops.max_args, "Most arguments of an operator (10)");
  command->add_option("--seed", listops.seed, "Seed (0)");
  command->callback([options] {
    data::ListOpsGenerator generator(options->listops);
    io::AtomicFile file(options->out);
    for (int64_t i = 0; i < options->count; ++i) {
      const data::ListOps item = generator.next();
      write_example(file, item.text, std::to_string(item.value));
    }
    file.commit();
    log_info(options->out + ": " + std::to_string(options->count) + " expressions");
  });
}

void add_recall(CLI::App& data_command) {
  struct Options {
    data::RecallOptions recall;
    std::string out;
    int64_t train = 20'000, valid = 1'000, test = 1'000;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = data_command.add_subcommand(
      "recall", "Write documents of key-value pairs and one query, at any distance");
  data::RecallOptions& recall = options->recall;
  command->add_option("--out", options->out, "Folder for train, valid and test.jsonl")->required();
  const auto count = CLI::Range(int64_t{0}, int64_t{1} << 40);
  command->add_option("--train", options->train, "Training documents (20000)")->check(count);
  command->add_option("--valid", options->valid, "Validation documents (1000)")->check(count);
  command->add_option("--test", options->test, "Test documents (1000)")->check(count);
  command->add_option("--length", recall.length, "Words of a document (1024)");
  command->add_option("--min-distance", recall.min_distance,
                      "Words from any pair to the first word and to the last (256)");
  command->add_option("--pairs", recall.pairs, "Pairs in a document, at most 26 (4)");
  command->add_option("--classes", recall.classes, "Values, at most 36 (4)");
  command->add_flag("--query-last", recall.query_last,
                    "The query ends the documents instead of beginning them");
  command->add_option("--seed", recall.seed, "Seed (0)");
  command->callback([options] {
    data::RecallGenerator generator(options->recall);
    io::make_directories(options->out);
    const std::pair<const char*, int64_t> parts[] = {
        {"train", options->train}, {"valid", options->valid}, {"test", options->test}};
    for (const auto& [name, count] : parts) {
      io::AtomicFile file(options->out + "/" + name + ".jsonl");
      for (int64_t i = 0; i < count; ++i) {
        const data::Recall item = generator.next();
        write_example(file, item.text, item.label);
      }
      file.commit();
    }
    log_info(options->out + ": " + std::to_string(options->train) + " + " +
             std::to_string(options->valid) + " + " + std::to_string(options->test) + " documents");
  });
}

std::string words_of(std::span<const int32_t> tokens) {
  std::string text;
  for (const int32_t token : tokens) {
    if (!text.empty()) text += ' ';
    text += token == data::kBlank ? "." : "w" + std::to_string(token);
  }
  return text;
}

void add_sequences(CLI::App& data_command) {
  struct Options {
    std::string task = "recall", out;
    int64_t count = 1000, length = 64;
    int symbols = 8, vocab = 64;
    uint64_t seed = 0;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = data_command.add_subcommand(
      "sequences", "Write toy languages for `train --task lm`: recall, copying, induction");
  command->footer(
      "Each line has a prompt and its completion: the last run of tokens that follow from those\n"
      "before (of recall, the answer to the last query). Words are ids, w1 w2 ..., and . for "
      "blanks.");
  Options& o = *options;
  command->add_option("--task", o.task, "recall, copy or induction (recall)")
      ->check(CLI::IsMember({"recall", "copy", "induction"}));
  command->add_option("--out", o.out, "JSONL file to write")->required();
  command->add_option("--count", o.count, "Sequences (1000)")->check(CLI::PositiveNumber);
  command->add_option("--symbols", o.symbols, "Pairs of recall, or symbols that come again (8)");
  command->add_option("--length", o.length, "Tokens of a sequence of recall (64)");
  command->add_option("--vocab", o.vocab, "Different words, the blank included (64)");
  command->add_option("--seed", o.seed, "Seed (0)");
  command->callback([options] {
    const Options& o = *options;
    data::Random random(o.seed);
    const auto next = [&] {
      if (o.task == "copy") return data::copy_sequence(o.symbols, o.vocab, random);
      if (o.task == "induction") return data::induction_sequence(o.symbols, o.vocab, random);
      return data::recall_sequence({o.length, o.symbols, o.vocab}, random);
    };
    io::AtomicFile file(o.out);
    for (int64_t i = 0; i < o.count; ++i) {
      const data::MarkedSequence s = next();
      const auto last = std::find(s.marked.rbegin(), s.marked.rend(), true);
      const auto before = std::find(last, s.marked.rend(), false);
      const auto begin = static_cast<size_t>(s.marked.rend() - before);
      const auto end = static_cast<size_t>(s.marked.rend() - last);
      const std::span<const int32_t> tokens = s.tokens;
      file.write(io::dump_json({{"prompt", words_of(tokens.first(begin)) + " "},
                                {"completion", words_of(tokens.subspan(begin, end - begin))}}) +
                 "\n");
    }
    file.commit();
    log_info(o.out + ": " + std::to_string(o.count) + " sequences");
  });
}

void print_report(const data::SourcesReport& report) {
  std::printf("%-12s %15s %15s %15s\n", "class", "train", "valid", "test");
  for (const auto& [label, row] : report.classes) {
    std::printf("%-12s", label.c_str());
    for (size_t s = 0; s < data::kSplits; ++s) {
      std::printf(" %6lld of %3lld p.", static_cast<long long>(row.files[s]),
                  static_cast<long long>(row.packages[s]));
    }
    std::printf("\n");
  }
  for (const auto& [label, why] : report.dropped) {
    std::printf("%-12s dropped: %s\n", label.c_str(), why.c_str());
  }
  std::printf(
      "%lld files seen; left out: %lld near-duplicates, %lld too short, %lld not UTF-8 text, %lld "
      "unreadable\n",
      static_cast<long long>(report.candidates), static_cast<long long>(report.near_duplicates),
      static_cast<long long>(report.too_short), static_cast<long long>(report.invalid_utf8),
      static_cast<long long>(report.unreadable));
}

void add_sources(CLI::App& data_command) {
  struct Options {
    data::SourcesOptions sources;
    std::string out;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = data_command.add_subcommand(
      "sources", "Collect source files of this machine, labelled by language, split by package");
  data::SourcesOptions& sources = options->sources;
  command->add_option("--out", options->out, "Folder for train, valid and test.jsonl")->required();
  command->add_option("--root", sources.roots,
                      "Folder to search; may be given several times (default: the system's)");
  command->add_option("--max-bytes", sources.max_bytes, "Bytes kept of a file (8192)")
      ->check(CLI::Range(int64_t{256}, int64_t{1} << 30));
  command->add_option("--min-bytes", sources.min_bytes, "Shorter files are left out (256)");
  command->add_option("--train-files", sources.split.max_files[0], "Most of a class (1500)")
      ->check(CLI::PositiveNumber);
  command->add_option("--valid-files", sources.split.max_files[1], "Most of a class (300)")
      ->check(CLI::PositiveNumber);
  command->add_option("--test-files", sources.split.max_files[2], "Most of a class (300)")
      ->check(CLI::PositiveNumber);
  command->add_option("--seed", sources.split.seed, "Seed (0)");
  command->callback(
      [options] { print_report(data::collect_sources(options->sources, options->out)); });
}

void add_data(CLI::App& app) {
  CLI::App* command = app.add_subcommand("data", "Look at data sets and make them");
  command->require_subcommand(1);
  add_check(*command);
  add_baseline(*command);
  add_listops(*command);
  add_recall(*command);
  add_sequences(*command);
  add_sources(*command);
}

const Registration registration("data", add_data);

}  // namespace
}  // namespace fovea::cli
