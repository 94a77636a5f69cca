#include <cerrno>
#include <cstdio>
#include <map>
#include <new>
#include <string>

#include "tools/cli/module/module_commands.h"
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include "fovea/core/log.h"
#include "fovea/core/parallel.h"
#include "fovea/core/status.h"
#include "fovea/io/config.h"
#include "fovea/io/file.h"

namespace fovea::cli {
namespace {

using Command = int (*)(const io::Json&);

const std::map<std::string, Command> kCommands = {{"bench_model", bench_model_command},
                                                  {"train", train_command},
                                                  {"eval", eval_command},
                                                  {"predict", predict_command},
                                                  {"generate", generate_command},
                                                  {"doctor", doctor_command}};

void apply_common(const io::Json& options) {
  if (const auto version = options.value("version", ""); version != FOVEA_VERSION) {
    throw InputError("the program is version " + version +
                     ", its library libfovea_commands.so is " FOVEA_VERSION "; install both again");
  }
  const std::string level = options.value("log_level", "info");
  set_log_level(level == "debug"     ? LogLevel::kDebug
                : level == "warning" ? LogLevel::kWarning
                : level == "error"   ? LogLevel::kError
                                     : LogLevel::kInfo);
  const int threads = options.value("threads", 0);
  if (threads > 0) set_num_threads(threads);
  // Torch's own default is half the processors; and it must agree with our loops.
  at::set_num_threads(num_threads());
  set_num_threads(num_threads());
}

int run(const std::string& command, const std::string& text) {
  const io::Json options = io::parse_json(text, "options");
  apply_common(options);
  const auto found = kCommands.find(command);
  if (found == kCommands.end()) {
    throw InputError("libfovea_commands.so has no command \"" + command + "\"");
  }
  const int code = found->second(options);
  flush_results();
  return code;
}

// The first line: what follows in torch's messages is a stack trace.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

train::DataSection data_settings(const train::RunConfig& run, const io::Json& options) {
  io::Config config;
  for (const auto& [key, text] :
       options.at("settings").get<std::vector<std::pair<std::string, std::string>>>()) {
    config.set(key, text, "--" + key);
  }
  return train::read_run_config(config, run).data;
}

void write_result(const std::string& text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    throw Error(ErrorCode::kFailed, "<stdout>: cannot be written: " + io::system_error_text(errno));
  }
}

void flush_results() {
  if (std::fflush(stdout) != 0) {
    throw Error(ErrorCode::kFailed, "<stdout>: cannot be written: " + io::system_error_text(errno));
  }
}

}  // namespace fovea::cli

extern "C" int fovea_command(const char* command, const char* options,
                             void (*report)(void* context, const char* text), void* context) {
  try {
    return fovea::cli::run(command, options);
  } catch (const fovea::Error& error) {
    report(context, error.what());
    return fovea::exit_code(error.code());
  } catch (const c10::Error& error) {
    const bool memory = std::string(error.what()).find("not enough memory") != std::string::npos;
    report(context, memory ? "out of memory; fewer train.micro_tokens or --batch-tokens need less"
                           : fovea::cli::first_line(error.what_without_backtrace()).c_str());
    return 1;
  } catch (const std::bad_alloc&) {
    report(context, "out of memory; fewer train.micro_tokens or --batch-tokens need less");
    return 1;
  } catch (const std::exception& error) {
    report(context, error.what());
    return 1;
  }
}
