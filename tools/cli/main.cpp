#include <cstdio>
#include <new>

#include "tools/cli/commands.h"

#include "fovea/core/parallel.h"
#include "fovea/core/status.h"

namespace {

int run(int argc, char** argv) {
  CLI::App app{"fovea: efficient attention for long-text Transformers", "fovea"};
  app.set_version_flag("--version", FOVEA_VERSION);
  app.require_subcommand(1);
  int threads = 0;
  app.add_option("--threads", threads, "Threads (default: the processors this process may use)")
      ->check(CLI::PositiveNumber);
  app.parse_complete_callback([&] {
    if (threads > 0) fovea::set_num_threads(threads);
  });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
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
