#include <cstdio>
#include <map>
#include <new>
#include <string>
#include <vector>

#include "tools/cli/commands.h"

#include "fovea/core/log.h"
#include "fovea/core/parallel.h"
#include "fovea/core/status.h"
#include "fovea/io/suggest.h"

namespace fovea::cli {
namespace {

// By name; a function's static, because registrations of other files may come first.
std::map<std::string, AddCommand>& commands() {
  static std::map<std::string, AddCommand> all;
  return all;
}

int exit_code_of_command = 0;
int threads = 0;
std::string log_level = "info";

const std::map<std::string, LogLevel> kLogLevels = {{"debug", LogLevel::kDebug},
                                                    {"info", LogLevel::kInfo},
                                                    {"warning", LogLevel::kWarning},
                                                    {"error", LogLevel::kError}};

// Options of the program, accepted before and after the sub-command.
void add_common_options(CLI::App& app) {
  app.fallthrough();
  app.add_option("--threads", threads, "Threads (default: the processors this process may use)")
      ->check(CLI::Range(1, 4096))
      ->envname("FOVEA_NUM_THREADS");
  app.add_option("--log-level", log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
  app.parse_complete_callback([] {
    if (threads > 0) set_num_threads(threads);
    set_log_level(kLogLevels.at(log_level));
  });
}

// What was not understood, as a message with the nearest option or command.
std::string message_of_extras(const CLI::App& app) {
  const CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  const std::vector<std::string> extras = app.remaining(true);
  std::string word = extras.front();
  for (const std::string& extra : extras) {
    if (extra.starts_with("-")) {
      word = extra.substr(0, extra.find('='));
      break;
    }
  }
  std::vector<std::string> known;
  for (const CLI::App* level = command; level != nullptr; level = level->get_parent()) {
    for (const CLI::Option* option : level->get_options()) {
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    }
  }
  for (const CLI::App* other : command->get_subcommands({})) known.push_back(other->get_name());
  const char* kind = word.starts_with("-")                  ? "option"
                     : command->get_subcommands({}).empty() ? "argument"
                                                            : "command";
  return (command == &app ? "" : command->get_name() + ": ") + "no such " + kind + ": " + word +
         io::suggestion(word, known) + " (see --help)";
}

int run(int argc, char** argv) {
  CLI::App app{"fovea: efficient attention for long-text Transformers", "fovea"};
  app.set_version_flag("--version", FOVEA_VERSION);
  app.require_subcommand(1);
  add_common_options(app);
  for (const auto& [name, add] : commands()) add(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0 && !app.remaining(true).empty()) {
      throw InputError(message_of_extras(app));
    }
    return app.exit(error) == 0 ? 0 : 2;
  }
  return exit_code_of_command;
}

}  // namespace

Registration::Registration(const char* name, AddCommand add) { commands().emplace(name, add); }

void set_exit_code(int code) { exit_code_of_command = code; }

int threads_option() { return threads; }

const char* log_level_option() { return log_level.c_str(); }

}  // namespace fovea::cli

int main(int argc, char** argv) {
  try {
    return fovea::cli::run(argc, argv);
  } catch (const fovea::Error& error) {
    std::fprintf(stderr, "fovea: %s\n", error.what());
    return fovea::exit_code(error.code());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "fovea: out of memory\n");
    return 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "fovea: %s\n", error.what());
    return 1;
  }
}
