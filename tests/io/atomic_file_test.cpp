#include "fovea/io/atomic_file.h"

#include <filesystem>
#include <set>

#include "tests/io/temporary_folder.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fovea/core/status.h"
#include "fovea/io/file.h"

namespace fovea::io {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using test::TemporaryFolder;
using testing::HasSubstr;

std::set<std::string> names_in(const std::string& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.insert(entry.path().filename().string());
  }
  return names;
}

TEST(AtomicFile, ReplacesOnCommitOnly) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.txt";
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write("new content");
    EXPECT_EQ(read_file(path), "old");
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"a.txt"});
  AtomicFile file(path);
  file.write(std::string(3 << 20, 'x'));
  EXPECT_EQ(read_file(path), "old");
  file.commit();
  EXPECT_EQ(read_file(path), std::string(3 << 20, 'x'));
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"a.txt"});
}

TEST(AtomicFile, NamesFileAndReason) {
  const TemporaryFolder folder;
  EXPECT_THAT(message_of<InputError>([&] { write_file(folder / "no/such/a.txt", "x"); }),
              testing::AllOf(HasSubstr("no/such/a.txt"), HasSubstr("No such file")));
  fs::create_directory(folder / "d");
  EXPECT_THAT(message_of<InputError>([&] { write_file(folder / "d", "x"); }),
              HasSubstr("Is a directory"));
}

// A child process with a limit on file sizes writes 8 MB over a small old file.
TEST(AtomicFile, AFileTooLargeLeavesTheOldOne) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.bin";
  write_file(path, "old");
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {2 << 20, 2 << 20};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    const std::string message =
        message_of<Error>([&] { write_file(path, std::string(8 << 20, 'x')); });
    const bool good = message.find("a.bin") != std::string::npos &&
                      message.find("File too large") != std::string::npos;
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"a.bin"});
}

TEST(AtomicFile, AFullDiskLeavesTheOldFile) {
  const TemporaryFolder folder;
  if (::mount("tmpfs", folder.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "a small tmpfs cannot be mounted here (it takes root)";
  }
  const std::string path = folder / "a.bin";
  write_file(path, "old");
  try {
    write_file(path, std::string(4 << 20, 'x'));
    ADD_FAILURE() << "expected an error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kFailed);
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr(path), HasSubstr("No space left on device")));
  }
  EXPECT_EQ(read_file(path), "old");
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"a.bin"});
  ::umount(folder.path().c_str());
}

TEST(AtomicDirectory, PutsAllFilesInPlaceAtOnce) {
  const TemporaryFolder folder;
  const std::string path = folder / "model";
  for (const std::string content : {"first", "second", "third"}) {
    AtomicDirectory directory(path + "/");
    write_file(directory.staging() + "/" + content, content);
    fs::create_directory(directory.staging() + "/inner");
    write_file(directory.staging() + "/inner/a", content);
    directory.commit();
    EXPECT_EQ(names_in(path), (std::set<std::string>{content, "inner"}));
    EXPECT_EQ(read_file(path + "/inner/a"), content);
    EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"model"});
  }
  {
    const AtomicDirectory directory(path);
    write_file(directory.staging() + "/fourth", "");
  }
  EXPECT_EQ(names_in(path), (std::set<std::string>{"third", "inner"}));
  EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"model"});
}

// Kills a writer at many moments: the folder holds one generation's two files, never a mixture.
TEST(AtomicDirectory, SurvivesKill) {
  const TemporaryFolder folder;
  const std::string path = folder / "model";
  for (int round = 0; round < 15; ++round) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (int i = 0;; ++i) {
        AtomicDirectory directory(path);
        const std::string content = std::to_string(i) + std::string(100'000, '.');
        write_file(directory.staging() + "/a", content);
        write_file(directory.staging() + "/b", content);
        directory.commit();
      }
    }
    while (!fs::exists(path)) ::usleep(100);
    ::usleep(static_cast<useconds_t>(1000 + 777 * round));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(read_file(path + "/a"), read_file(path + "/b"));
    EXPECT_EQ(names_in(path), (std::set<std::string>{"a", "b"}));
    remove_stale_temporaries(folder.path());
    EXPECT_EQ(names_in(folder.path()), std::set<std::string>{"model"});
  }
}

TEST(RemoveStaleTemporaries, KeepsThoseOfRunningProcessesAndOtherFiles) {
  const TemporaryFolder folder;
  const pid_t child = ::fork();
  if (child == 0) ::_exit(0);
  ::waitpid(child, nullptr, 0);
  const std::string stale = "a.tmp-" + std::to_string(child);
  const std::string running = "a.tmp-" + std::to_string(::getppid());
  for (const std::string& name : {stale, running, std::string("a.tmp-x"), std::string("a")}) {
    write_file(folder / name, "");
  }
  EXPECT_EQ(remove_stale_temporaries(folder.path()), 1);
  EXPECT_EQ(names_in(folder.path()), (std::set<std::string>{running, "a.tmp-x", "a"}));
}

}  // namespace
}  // namespace fovea::io
