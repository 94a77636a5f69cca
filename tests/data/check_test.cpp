#include "fovea/data/check.h"

#include "tests/io/temporary_folder.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"
#include "fovea/text/tokenizer.h"

namespace fovea::data {
namespace {

using test::TemporaryFolder;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(CheckData, CountsWhatIsThere) {
  const TemporaryFolder folder;
  io::write_file(folder / "train.tsv", "a\tone\na\ttwo two\nb\tone\nb\t\na\tone\n");
  io::write_file(folder / "valid.tsv", "a\ttwo two\nc\tnew\n");
  const Tokenizer tokenizer = Tokenizer::byte_level();
  const DataReport report =
      check_data({folder / "train.tsv", folder / "valid.tsv"}, {}, &tokenizer, 3);
  ASSERT_EQ(report.files.size(), 2u);
  const FileReport& train = report.files[0];
  EXPECT_EQ(train.examples, 5);
  EXPECT_EQ(train.labels, (std::map<std::string, int64_t>{{"a", 3}, {"b", 2}}));
  EXPECT_EQ(train.empty, 1);
  EXPECT_EQ(train.duplicates, 2);
  EXPECT_EQ(train.truncated, 1);
  EXPECT_EQ(train.bytes.min, 0);
  EXPECT_EQ(train.bytes.median, 3);
  EXPECT_EQ(train.bytes.p90, 7);
  EXPECT_DOUBLE_EQ(train.bytes.mean, 16.0 / 5);
  EXPECT_EQ(report.duplicates_across, 1);
  EXPECT_EQ(report.contradictions, 1);
  EXPECT_THAT(report.labels_only_later, ElementsAre("c"));
  EXPECT_FALSE(report.usable());
  EXPECT_TRUE(check_data({folder / "train.tsv"}, {}, nullptr, 0).usable());
}

TEST(CheckData, ListsEveryFault) {
  const TemporaryFolder folder;
  io::write_file(folder / "t.jsonl", R"({"text": "good", "label": 1})"
                                     "\n{\"text\": \"bad \xFF\", \"label\": 1}\n"
                                     "{\"text\": 1, \"label\": 1}\nnonsense\n"
                                     "{\"text\": \"\xC3\", \"label\": 1}\n");
  const DataReport report = check_data({folder / "t.jsonl"}, {}, nullptr, 0);
  const FileReport& file = report.files[0];
  EXPECT_EQ(file.examples, 3);
  EXPECT_THAT(file.encoding_errors, ElementsAre(HasSubstr("t.jsonl:2: invalid UTF-8 at byte 14"),
                                                HasSubstr("t.jsonl:5: invalid UTF-8 at byte 10")));
  EXPECT_THAT(file.errors, ElementsAre(HasSubstr("t.jsonl:3: "), HasSubstr("t.jsonl:4: ")));
  EXPECT_FALSE(report.usable());
  const io::Json json = to_json(report);
  EXPECT_EQ(json["files"][0]["error_count"], 2);
  EXPECT_THAT(to_text(report), HasSubstr("not usable"));
}

TEST(CheckData, StopsAtAFaultThatIsNotOfOneRecord) {
  const TemporaryFolder folder;
  DataOptions options;
  options.max_line_bytes = 40;
  io::write_file(folder / "t.jsonl", R"({"text": "good", "label": 1})"
                                     "\n" +
                                         std::string(1000, 'x') + "\n");
  const DataReport report = check_data({folder / "t.jsonl"}, options, nullptr, 0);
  EXPECT_EQ(report.files[0].examples, 1);
  EXPECT_GE(report.files[0].error_count, 1);
  EXPECT_LE(report.files[0].error_count, 2);
}

}  // namespace
}  // namespace fovea::data
