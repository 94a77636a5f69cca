#include "fovea/io/file.h"

#include <filesystem>

#include "tests/io/temporary_folder.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"
#include "fovea/io/suggest.h"

namespace fovea::io {
namespace {

using test::message_of;
using test::TemporaryFolder;
using testing::HasSubstr;

TEST(ReadFile, RefusesWhatIsTooLongMissingOrAFolder) {
  const TemporaryFolder folder;
  write_file(folder / "a", "12345");
  EXPECT_EQ(read_file(folder / "a", 5), "12345");
  EXPECT_THAT(message_of<InputError>([&] { read_file(folder / "a", 4); }), HasSubstr("at most 4"));
  EXPECT_THAT(message_of<InputError>([&] { read_file(folder / "b"); }), HasSubstr("/b: "));
  EXPECT_THAT(message_of<InputError>([&] { read_file(folder.path()); }), HasSubstr("folder"));
}

TEST(FolderLock, HoldsUntilItIsDestroyed) {
  const TemporaryFolder folder;
  const auto lock = [&] {
    return message_of<InputError>([&] { FolderLock again(folder.path()); });
  };
  {
    const FolderLock held(folder.path());
    EXPECT_THAT(lock(), HasSubstr("another process"));
  }
  EXPECT_NO_THROW(FolderLock(folder.path()));
  EXPECT_THAT(message_of<InputError>([&] { FolderLock none(folder / "none"); }),
              HasSubstr("/none: cannot be opened"));
}

TEST(HashPath, KnowsContentAndNamesAndBoundaries) {
  const TemporaryFolder folder;
  write_file(folder / "a", "");
  // XXH3_128bits of nothing, from the xxHash specification.
  EXPECT_EQ(hash_path(folder / "a"), "xxh3:99aa06d3014798d86001c324468d497f");
  const auto hash_of = [&](const std::string& name_a, const std::string& a,
                           const std::string& name_b, const std::string& b) {
    std::filesystem::remove_all(folder / "d");
    make_directories(folder / "d/x");
    write_file(folder / ("d/x/" + name_a), a);
    write_file(folder / ("d/" + name_b), b);
    return hash_path(folder / "d");
  };
  const std::string hash = hash_of("p", "12", "q", "3");
  EXPECT_EQ(hash, hash_of("p", "12", "q", "3"));
  EXPECT_NE(hash, hash_of("p", "1", "q", "23"));
  EXPECT_NE(hash, hash_of("p", "12", "r", "3"));
}

TEST(Nearest, FindsTypingErrorsOnly) {
  const std::vector<std::string> keys = {"train.lr", "train.epochs", "seed", "model.layers"};
  EXPECT_EQ(nearest("train.epcohs", keys), "train.epochs");
  EXPECT_EQ(nearest("sed", keys), "seed");
  EXPECT_EQ(nearest("ab", keys), "");
  EXPECT_EQ(nearest("train.momentum", keys), "");
  EXPECT_EQ(suggestion("train.l", keys), "; did you mean \"train.lr\"?");
  EXPECT_EQ(nearest(std::string(100'000, 'x'), keys), "");
}

}  // namespace
}  // namespace fovea::io
