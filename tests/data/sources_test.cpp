#include "fovea/data/sources.h"

#include <set>

#include "tests/io/temporary_folder.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/data/example.h"
#include "fovea/data/language.h"
#include "fovea/data/near_duplicates.h"
#include "fovea/data/package_owner.h"
#include "fovea/data/random.h"
#include "fovea/io/atomic_file.h"
#include "fovea/io/file.h"
#include "fovea/io/json.h"

namespace fovea::data {
namespace {

using test::TemporaryFolder;
using testing::HasSubstr;

TEST(Language, GoesByNameThenByFirstLine) {
  EXPECT_EQ(language_of_name("/a/b.py"), "python");
  EXPECT_EQ(language_of_name("/a/CMakeLists.txt"), "cmake");
  EXPECT_EQ(language_of_name("/a/b.h"), "header");
  EXPECT_EQ(language_of_name("/a/b.txt"), "");
  EXPECT_EQ(language_of_name("/a.py/b"), "");
  EXPECT_EQ(language_of_name("/a/jquery.min.js"), "");
  EXPECT_EQ(language_of_name("/usr/share/man/de/man1/ls.1.gz"), "roff");
  EXPECT_EQ(language_of_name("/usr/share/man1/ls.1.gz"), "");
  EXPECT_EQ(language_of_content("#!/bin/sh\nx"), "shell");
  EXPECT_EQ(language_of_content("#! /usr/bin/env -S python3.11 -u\n"), "python");
  EXPECT_EQ(language_of_content("#!/usr/bin/perl -w"), "perl");
  EXPECT_EQ(language_of_content("// <vector> -*- C++ -*-\n"), "c++");
  EXPECT_EQ(language_of_content("#!"), "");
  EXPECT_EQ(language_of_content("plain"), "");
}

TEST(PackageOwner, KnowsDpkgPythonAndFolders) {
  const TemporaryFolder folder;
  io::make_directories(folder / "info");
  io::make_directories(folder / "site-packages/Big_Lib-1.0.dist-info");
  io::write_file(folder / "info/libc6:amd64.list", "/.\n/lib/x.py\n/usr/share/y.py\n");
  io::write_file(folder / "site-packages/Big_Lib-1.0.dist-info/RECORD",
                 "big/a.py,sha256=x,1\n\"q\",,\n");
  PackageOwner owner(folder / "info");
  EXPECT_EQ(owner.owner_of("/usr/share/y.py", "/usr"), "deb:libc6");
  EXPECT_EQ(owner.owner_of("/usr/lib/x.py", "/usr"), "deb:libc6");
  EXPECT_EQ(owner.owner_of(folder / "info/zsh.postinst", folder.path()), "deb:zsh");
  EXPECT_EQ(owner.owner_of(folder / "site-packages/big/a.py", folder.path()), "python:big_lib");
  EXPECT_EQ(owner.owner_of(folder / "site-packages/other/a.py", folder.path()), "python:other");
  EXPECT_EQ(owner.owner_of("/src/tree/a/b.c", "/src/tree"), "folder:/src/tree/a");
  EXPECT_EQ(owner.owner_of("/src/tree/b.c", "/src/tree"), "folder:/src/tree");
}

std::string words(Random& random, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += "w" + std::to_string(random.below(100'000)) + " ";
  return text;
}

TEST(NearDuplicates, FindsSmallChangesOnly) {
  Random random(1);
  NearDuplicates duplicates;
  for (int i = 0; i < 50; ++i) {
    const std::string text = words(random, 400);
    EXPECT_FALSE(duplicates.seen_or_add(text));
    EXPECT_TRUE(duplicates.seen_or_add(text));
    EXPECT_TRUE(duplicates.seen_or_add("a license line\n" + text)) << i;
    EXPECT_FALSE(duplicates.seen_or_add(text.substr(0, text.size() / 2) + words(random, 200)));
  }
}

TEST(ChooseCounts, KeepsShareAndEvensOut) {
  PackageSplitOptions options;
  options.min_files = 10;
  options.min_packages = 1;
  options.max_files = {100, 30, 30};
  const std::map<std::string, int64_t> packages = {
      {"a", 1000}, {"b", 20}, {"c", 500}, {"d", 40}, {"e", 40}};
  const std::map<std::string, int> split = {{"a", 0}, {"b", 0}, {"c", 0}, {"d", 1}, {"e", 2}};
  std::string why;
  const auto chosen = choose_counts(packages, split, options, &why);
  // train: 20 + 40 + 40; all: 160, of which 30 % = 48
  EXPECT_EQ(chosen, (std::map<std::string, int64_t>{
                        {"a", 40}, {"b", 20}, {"c", 40}, {"d", 30}, {"e", 30}}));
  options.min_packages = 2;
  EXPECT_TRUE(choose_counts(packages, split, options, &why).empty());
  EXPECT_THAT(why, HasSubstr("30 files of 1 packages in valid"));
}

TEST(SplitPackages, SavesEveryClassThatCanBeSaved) {
  PackageCounts counts;
  for (int i = 0; i < 9; ++i) counts["tight"]["p" + std::to_string(i)] = 60;
  for (int i = 0; i < 9; ++i) counts["other"]["p" + std::to_string(i)] = 70;
  counts["hopeless"]["p0"] = 1000;
  const PackageSplitOptions options;
  const auto split = split_packages(counts, options);
  std::string why;
  EXPECT_FALSE(choose_counts(counts["tight"], split, options, &why).empty()) << why;
  EXPECT_FALSE(choose_counts(counts["other"], split, options, &why).empty()) << why;
  EXPECT_TRUE(choose_counts(counts["hopeless"], split, options, &why).empty());
}

// A small tree: two languages in 12 packages, one package far too large, headers of a C package.
TEST(CollectSources, KeepsPackagesApart) {
  const TemporaryFolder folder;
  Random random(2);
  for (int p = 0; p < 12; ++p) {
    const std::string package = folder / ("tree/p" + std::to_string(p));
    io::make_directories(package);
    for (int f = 0; f < (p == 0 ? 60 : 10); ++f) {
      io::write_file(package + "/a" + std::to_string(f) + ".py", words(random, 100));
      io::write_file(package + "/b" + std::to_string(f) + (f % 2 ? ".c" : ".h"),
                     words(random, 2000));
    }
    io::write_file(package + "/bad.py", words(random, 100) + "\xFF");
    io::write_file(package + "/short.py", "x = 1\n");
  }
  SourcesOptions options;
  options.roots = {folder / "tree/"};
  options.split.min_files = 10;
  const SourcesReport report = collect_sources(options, folder / "out");
  ASSERT_EQ(report.classes.size(), 2u);
  EXPECT_EQ(report.invalid_utf8, 12);
  EXPECT_EQ(report.too_short, 12);
  std::map<std::string, std::set<std::string>> splits_of;
  std::map<std::string, std::map<std::string, int>> files;
  for (const std::string split : kSplitNames) {
    const std::string path = folder / ("out/" + split + ".jsonl");
    const std::vector<Example> examples = read_examples(path);
    for (const Example& example : examples) {
      EXPECT_LE(example.text.size(), 8192u);
      EXPECT_GE(example.text.size(), 256u);
      const std::string id = io::parse_json(example.id, "id").get<std::string>();
      const std::string package = id.substr(0, id.rfind('/'));
      splits_of[package].insert(split);
      ++files[example.label][package];
    }
  }
  EXPECT_EQ(splits_of.size(), 12u);
  for (const auto& [package, splits] : splits_of) EXPECT_EQ(splits.size(), 1u) << package;
  for (const auto& [label, packages] : files) {
    int all = 0, most = 0;
    for (const auto& [package, count] : packages) {
      all += count;
      most = std::max(most, count);
    }
    EXPECT_LE(most, 0.3 * all) << label;
    EXPECT_GE(all, 110) << label;
  }
  const std::string first = io::read_file(folder / "out/train.jsonl");
  collect_sources(options, folder / "out");
  EXPECT_EQ(io::read_file(folder / "out/train.jsonl"), first);
  options.split.min_files = 10'000;
  EXPECT_THROW(collect_sources(options, folder / "out"), InputError);
}

}  // namespace
}  // namespace fovea::data
