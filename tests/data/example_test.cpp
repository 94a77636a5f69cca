#include "fovea/data/example.h"

#include <filesystem>

#include "tests/io/temporary_folder.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"

namespace fovea::data {
namespace {

using test::message_of;
using test::TemporaryFolder;
using testing::AllOf;
using testing::HasSubstr;

struct Row {
  std::string label, text, id;
  bool operator==(const Row&) const = default;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << "{" << row.label << " | " << row.text << " | " << row.id << "}";
}

using Rows = std::vector<Row>;

Rows read(const std::string& content, const DataOptions& options = {},
          const std::string& name = "f") {
  Rows rows;
  const auto reader = examples_from_memory(content, name, options);
  for (Example example; reader->next(example);) {
    EXPECT_EQ(example.has_label, !example.label.empty());
    rows.push_back({example.label, example.text, example.id});
  }
  return rows;
}

std::string error_of(const std::string& content, const DataOptions& options = {},
                     const std::string& name = "f") {
  return message_of<InputError>([&] { read(content, options, name); });
}

DataOptions of_format(Format format) {
  DataOptions options;
  options.format = format;
  return options;
}

TEST(Jsonl, ReadsTextLabelAndId) {
  EXPECT_EQ(read(R"({"text": "a\nb", "label": "x", "id": 7})"
                 "\n\n"
                 R"({"label": 3, "other": {"text": [1, {"label": 2}]}, "text": "\u00e9\u0000"})"
                 "\r\n"
                 R"({"label": 1.50, "text": "", "id": "q\"", "n": null})"
                 "\n"
                 R"({"label": true, "text": "t"})"),
            (Rows{{"x", "a\nb", "7"},
                  {"3", std::string("\xC3\xA9\0", 3), ""},
                  {"1.50", "", "\"q\\\"\""},
                  {"true", "t", ""}}));
}

TEST(Jsonl, JoinsAndRenamesFields) {
  DataOptions options;
  options.text_fields = {"title", "body"};
  options.label_field = "topic";
  EXPECT_EQ(read(R"({"body": "B", "topic": "x", "title": "T", "text": 3})", options),
            (Rows{{"x", "T\nB", ""}}));
  EXPECT_THAT(
      error_of(R"({"body": "B", "topic": "x", "tilte": "T"})", options),
      AllOf(HasSubstr("f:1: field \"title\" is missing"), HasSubstr("did you mean \"tilte\"")));
}

TEST(Jsonl, ErrorsNameFileLineAndField) {
  const std::string good = R"({"text": "a", "label": "x"})"
                           "\n";
  EXPECT_THAT(error_of(good + R"({"text": "a"})"), HasSubstr("f:2: field \"label\" is missing"));
  EXPECT_THAT(error_of(good + R"({"text": 3, "label": "x"})"),
              HasSubstr("f:2: field \"text\": expected a string, found a number"));
  EXPECT_THAT(error_of(good + R"({"text": ["a"], "label": "x"})"), HasSubstr("found an array"));
  EXPECT_THAT(error_of(good + R"({"text": null, "label": "x"})"), HasSubstr("found null"));
  EXPECT_THAT(error_of(good + R"({"text": "a", "label": ["x", "y"]})"),
              HasSubstr("expected one label"));
  EXPECT_THAT(error_of(good + R"({"text": "a", "label": ""})"), HasSubstr("found an empty string"));
  EXPECT_THAT(error_of(good + R"({"text": "a", "label": null})"), HasSubstr("found null"));
  EXPECT_THAT(error_of(good + R"({"text": "a", "label": 1, "text": "b"})"),
              HasSubstr("\"text\" is given twice"));
  EXPECT_THAT(error_of(good + R"({"text": "a", )"), HasSubstr("f:2: byte 14: not valid JSON"));
  EXPECT_THAT(error_of(good + good.substr(0, 27) + good),
              HasSubstr("f:2: byte 27: not valid JSON"));
  EXPECT_THAT(error_of(good + "[1]"), HasSubstr("f:2: expected a JSON object, found an array"));
  EXPECT_THAT(error_of(good + "\"s\""), HasSubstr("f:2: expected a JSON object, found a string"));
  EXPECT_THAT(error_of(good + "7"), HasSubstr("f:2: expected a JSON object, found a number"));
  EXPECT_THAT(error_of(good + "{\"text\": \"a\0\", \"label\": 1}"), HasSubstr("f:2: byte"));
  std::string deep = R"({"text": "a", "label": "x", "deep": )" + std::string(100'000, '[');
  EXPECT_THAT(error_of(deep), HasSubstr("nested at most 64"));
}

TEST(Jsonl, InvalidUtf8IsAnErrorOrReplaced) {
  const std::string bad = "{\"text\": \"a\xE2\x82z\", \"label\": \"x\"}";
  EXPECT_THAT(error_of(bad), HasSubstr("f:1: invalid UTF-8 at byte 11"));
  DataOptions options;
  options.encoding_errors = EncodingErrors::kReplace;
  EXPECT_EQ(read(bad, options), (Rows{{"x", "a\xEF\xBF\xBDz", ""}}));
  options.encoding_errors = EncodingErrors::kBytes;
  EXPECT_THAT(error_of(bad, options), HasSubstr("invalid UTF-8"));
}

TEST(Jsonl, LabelsMayBeMissingWhereTheyAreNotRequired) {
  DataOptions options;
  options.require_label = false;
  options.format = Format::kJsonl;
  EXPECT_EQ(read(R"({"text": "a", "label": null, "id": null})"
                 "\n"
                 R"({"text": "b"})",
                 options),
            (Rows{{"", "a", ""}, {"", "b", ""}}));
  EXPECT_EQ(read("", options), Rows{});
}

TEST(Tsv, TakesExactlyTwoColumns) {
  const DataOptions tsv = of_format(Format::kTsv);
  EXPECT_EQ(read("1\tone text\r\n0\t\"quoted\"\n\n2\t", tsv),
            (Rows{{"1", "one text", ""}, {"0", "\"quoted\"", ""}, {"2", "", ""}}));
  EXPECT_THAT(error_of("1\ta\n1\t9\tid\ttext", tsv),
              AllOf(HasSubstr("f:2: expected 2 columns"), HasSubstr("found 4"),
                    HasSubstr("--data.columns")));
  EXPECT_THAT(error_of("1\ta\njust text", tsv), HasSubstr("f:2: expected 2 columns"));
  EXPECT_THAT(error_of("\ta", tsv), HasSubstr("f:1: label: expected a name"));
  EXPECT_THAT(error_of(std::string("1\ta\0b", 5), tsv), HasSubstr("f:1: text: NUL at byte 1"));
  EXPECT_THAT(error_of("1\tab\xFF", tsv), HasSubstr("f:1: text: invalid UTF-8 at byte 2"));
}

TEST(Tsv, PicksNamedColumns) {
  DataOptions tsv = of_format(Format::kTsv);
  tsv.columns = {"label", "stars", "id", "text"};
  EXPECT_EQ(read("0\t2\tneg_0\tbad\n", tsv), (Rows{{"0", "bad", "\"neg_0\""}}));
  EXPECT_THAT(
      error_of("0\t2\tneg_0\n", tsv),
      AllOf(HasSubstr("expected 4 columns (label, stars, id, text)"), HasSubstr("found 3")));
  tsv.text_fields = {"body"};
  EXPECT_THAT(error_of("0\t2\tneg_0\tbad\n", tsv), HasSubstr("no \"body\""));
  tsv.columns = {"text", "label", "text"};
  EXPECT_THAT(error_of("0\t2\tneg_0\n", tsv), HasSubstr("\"text\" twice"));
}

TEST(Columns, AHeaderNamesThem) {
  const DataOptions tsv = of_format(Format::kTsv), csv = of_format(Format::kCsv);
  EXPECT_EQ(read("text\tlabel\nbad\t0\n", tsv), (Rows{{"0", "bad", ""}}));
  EXPECT_EQ(read("id,stars,label,\"text\"\r\n7,2,neg,\"a,b\"\r\nlabel,2,text,c", csv),
            (Rows{{"neg", "a,b", "\"7\""}, {"text", "c", "\"label\""}}));
  EXPECT_THAT(error_of("id,label,text\n7,neg\n", csv),
              AllOf(HasSubstr("f:2: expected 3 columns (id, label, text)"), HasSubstr("found 2")));
  EXPECT_THAT(error_of("text,label,text\n", csv),
              HasSubstr("f:1: the header names \"text\" twice"));
  EXPECT_THAT(error_of("label,text\n", csv), HasSubstr("at least one example"));
  DataOptions named = csv;
  named.text_fields = {"title", "body"};
  named.label_field = "topic";
  EXPECT_EQ(read("title,topic,body\nT,x,B", named), (Rows{{"x", "T\nB", ""}}));
  named.columns = {"title", "topic", "body"};
  EXPECT_EQ(read("title,topic,body\nT,x,B", named), (Rows{{"x", "T\nB", ""}}));
  EXPECT_EQ(read("body,topic,title\nT,x,B", named),
            (Rows{{"topic", "body\ntitle", ""}, {"x", "T\nB", ""}}));
  DataOptions unlabelled = csv;
  unlabelled.require_label = false;
  EXPECT_EQ(read("text\na\n", unlabelled), (Rows{{"", "a", ""}}));
}

TEST(Csv, FollowsRfc4180) {
  const DataOptions csv = of_format(Format::kCsv);
  EXPECT_EQ(
      read("x,plain\r\n\"y\",\"a, \"\"b\"\"\r\nnext\"\r\nz,\nw,\"\"", csv),
      (Rows{{"x", "plain", ""}, {"y", "a, \"b\"\r\nnext", ""}, {"z", "", ""}, {"w", "", ""}}));
  EXPECT_THAT(error_of("x,a\ny,\"b\nc\n", csv), HasSubstr("f:2: the quoted field"));
  EXPECT_THAT(error_of("x,a\"b\n", csv), HasSubstr("f:1: byte 3: expected CSV"));
  EXPECT_THAT(error_of("x,\"a\"b\n", csv), HasSubstr("text after a closing quote"));
  EXPECT_THAT(error_of("x,a,b\n", csv), HasSubstr("found 3"));
}

TEST(Csv, CountsPhysicalLines) {
  const auto reader = examples_from_memory("x,\"a\nb\"\ny,c", "f", of_format(Format::kCsv));
  Example example;
  ASSERT_TRUE(reader->next(example));
  EXPECT_EQ(example.line, 1);
  ASSERT_TRUE(reader->next(example));
  EXPECT_EQ(example.line, 3);
}

TEST(Labelled, TakesOneLabel) {
  EXPECT_EQ(read("__label__x some text\n__label__y\tmore\n__label__z"),
            (Rows{{"x", "some text", ""}, {"y", "more", ""}, {"z", "", ""}}));
  EXPECT_THAT(error_of("__label__x a\n__label__x __label__y a"),
              HasSubstr("f:2: expected one label, found several"));
  EXPECT_THAT(error_of("__label__x a\nno label"), HasSubstr("f:2: expected `__label__x text`"));
  EXPECT_THAT(error_of("__label__ a"), HasSubstr("f:1: label: expected a name"));
}

TEST(Format, IsSeenByExtensionThenContent) {
  EXPECT_EQ(read("\xEF\xBB\xBF{\"text\": \"a\", \"label\": 1}"), (Rows{{"1", "a", ""}}));
  EXPECT_EQ(read("1\ta"), (Rows{{"1", "a", ""}}));
  EXPECT_EQ(read("1,a", {}, "x.csv"), (Rows{{"1", "a", ""}}));
  EXPECT_EQ(read("1\t{a", {}, "x.tsv.gz"), (Rows{{"1", "{a", ""}}));
  EXPECT_THAT(error_of("1,a"), HasSubstr("f:1: expected a JSON object"));
  EXPECT_THAT(error_of("1\ta", {}, "x.jsonl"), HasSubstr("x.jsonl:1: "));
  EXPECT_THAT(error_of(""), HasSubstr("f: expected at least one example"));
  EXPECT_THAT(error_of("\n\n", {}, "x.jsonl"), HasSubstr("at least one example"));
  EXPECT_THAT(error_of("", {}, "x.tsv"), HasSubstr("at least one example"));
  DataOptions unlabelled;
  unlabelled.require_label = false;
  EXPECT_EQ(read("one\n\n two\tcolumns", unlabelled),
            (Rows{{"", "one", ""}, {"", "", ""}, {"", " two\tcolumns", ""}}));
  EXPECT_EQ(read("{\"text\": \"a\"}", unlabelled), (Rows{{"", "a", ""}}));
  EXPECT_EQ(parse_format("tsv"), Format::kTsv);
  EXPECT_THAT(message_of<InputError>([] { parse_format("jsnol"); }),
              HasSubstr("did you mean \"jsonl\""));
}

TEST(Folder, OneClassAFolder) {
  const TemporaryFolder folder;
  io::make_directories(folder / "d/spam/deep");
  io::make_directories(folder / "d/ham");
  io::write_file(folder / "d/spam/deep/1", "buy");
  io::write_file(folder / "d/spam/0", "now\n");
  io::write_file(folder / "d/ham/0", std::string("\xFF\0", 2));
  io::write_file(folder / "d/.hidden", "");
  DataOptions options;
  EXPECT_THAT(message_of<InputError>([&] { read_examples(folder / "d", options); }),
              HasSubstr("ham/0: NUL at byte 1"));
  options.encoding_errors = EncodingErrors::kBytes;
  Rows rows;
  for (const Example& e : read_examples(folder / "d", options)) {
    rows.push_back({e.label, e.text, e.id});
  }
  EXPECT_EQ(rows, (Rows{{"ham", std::string("\xFF\0", 2), "\"ham/0\""},
                        {"spam", "now\n", "\"spam/0\""},
                        {"spam", "buy", "\"spam/deep/1\""}}));
  io::write_file(folder / "d/stray", "");
  EXPECT_THAT(message_of<InputError>([&] { read_examples(folder / "d", options); }),
              HasSubstr("stray: expected a folder"));
  io::make_directories(folder / "empty");
  EXPECT_THAT(message_of<InputError>([&] { read_examples(folder / "empty"); }),
              HasSubstr("at least one example"));
  EXPECT_THAT(message_of<InputError>([&] { read_examples(folder / "none"); }),
              HasSubstr("No such file"));
}

TEST(File, IsOneText) {
  const TemporaryFolder folder;
  const std::string text(200'000, 'x');
  io::write_file(folder / "a.jsonl", "one\n" + text);
  DataOptions options = of_format(Format::kFile);
  EXPECT_THAT(message_of<InputError>([&] { read_examples(folder / "a.jsonl", options); }),
              HasSubstr("a whole file as one text has no label"));
  options.require_label = false;
  const std::vector<Example> examples = read_examples(folder / "a.jsonl", options);
  ASSERT_EQ(examples.size(), 1u);
  EXPECT_EQ(examples[0].text, "one\n" + text);
  EXPECT_EQ(examples[0].id, "\"" + (folder / "a.jsonl") + "\"");
  EXPECT_FALSE(examples[0].has_label);
  options.max_line_bytes = 200'003;
  EXPECT_THAT(message_of<InputError>([&] { read_examples(folder / "a.jsonl", options); }),
              HasSubstr("expected a text of at most 200003 bytes"));
}

TEST(Jsonl, ReadsALineOf100Megabytes) {
  const std::string text(100'000'000, 'x');
  const auto reader = examples_from_memory("", "f", [] {
    DataOptions options;
    options.require_label = false;
    return options;
  }());
  Example example;
  EXPECT_FALSE(reader->next(example));
  const std::string content = R"({"label": "l", "text": ")" + text + "\"}";
  const auto big = examples_from_memory(content, "f");
  ASSERT_TRUE(big->next(example));
  EXPECT_TRUE(example.text == text);
  DataOptions small;
  small.max_line_bytes = 50'000'000;
  EXPECT_THAT(error_of(content, small), HasSubstr("f:1: expected a line of at most 50000000"));
}

}  // namespace
}  // namespace fovea::data
