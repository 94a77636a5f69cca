#include "tools/cli/module.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "tools/cli/commands.h"
#include <dlfcn.h>
#include <malloc.h>

#include "fovea/core/status.h"

namespace fovea::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "libfovea_commands.so";

fs::path find_library() {
  const fs::path bin = fs::read_symlink("/proc/self/exe").parent_path();
  for (const char* folder : {FOVEA_LIBRARY_FOLDER, "../lib", "."}) {
    const fs::path path = bin / folder / kLibrary;
    if (fs::exists(path)) return path;
  }
  throw Error(ErrorCode::kUnsupported,
              std::string(kLibrary) + ": not found beside the program (" + bin.string() +
                  "/../lib); this command needs a build with LibTorch: run scripts/setup, then "
                  "build with -DFOVEA_TORCH=ON");
}

// oneDNN compiles a kernel for each shape of a matrix product and keeps the last 1,024. Packed
// batches have a new number of rows nearly every time, so hardly any is used again: 450 MB after
// 100 updates of examples/20newsgroups. 64 hold what one step uses twice. It is read when torch is
// loaded; a user's own value stays.
void bound_kernel_cache() { setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64", /*overwrite=*/0); }

// Every layer frees its activations and asks for as much again. Left alone, the C library gives
// what is free at the heap's end back to the system, which clears each page before its next use: at
// 16,384 tokens of 256 features a layer of hmatrix(64) took 341 ms in place of 232, one of
// window(144) 217 in place of 203, for a fifth less memory at the peak. Larger blocks are left to
// the system: kept, they would take 75 % more (AMD EPYC Zen 4, 2026-11-21). A user's own settings
// stay.
void keep_freed_memory() {
#ifdef __GLIBC__
  if (std::getenv("MALLOC_TRIM_THRESHOLD_") || std::getenv("MALLOC_MMAP_THRESHOLD_")) return;
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_MMAP_THRESHOLD, 64 << 20);
#endif
}

FoveaCommand load() {
  bound_kernel_cache();
  keep_freed_memory();
  const fs::path path = find_library();
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  void* symbol = library ? dlsym(library, kModuleSymbol) : nullptr;
  if (!symbol) {
    const char* reason = dlerror();
    throw Error(ErrorCode::kUnsupported, path.string() + ": cannot be loaded: " +
                                             (reason ? reason : "no symbol fovea_command"));
  }
  return reinterpret_cast<FoveaCommand>(symbol);
}

void print_error(void*, const char* text) { std::fprintf(stderr, "fovea: %s\n", text); }

}  // namespace

void run_in_module(const std::string& command, io::Json options) {
  options["version"] = FOVEA_VERSION;
  options["threads"] = threads_option();
  options["log_level"] = log_level_option();
  set_exit_code(load()(command.c_str(), options.dump().c_str(), print_error, nullptr));
}

}  // namespace fovea::cli
