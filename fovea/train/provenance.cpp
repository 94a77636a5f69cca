#include "fovea/train/provenance.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <torch/version.h>
#include <unistd.h>

#include "fovea/core/cpu_features.h"
#include "fovea/core/parallel.h"
#include "fovea/io/file.h"

namespace fovea::train {
namespace {

// Fingerprint of the file that this code was loaded from.
std::string build_fingerprint() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&build_fingerprint), &info) == 0 || !info.dli_fname) {
    return "unknown";
  }
  return io::hash_path(info.dli_fname);
}

}  // namespace

io::Json versions() {
  return {{"fovea", FOVEA_VERSION}, {"torch", TORCH_VERSION}, {"compiler", __VERSION__}};
}

io::Json machine() {
  const CpuFeatures& cpu = cpu_features();
  const int64_t memory = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
  return {{"processor", cpu.model_name},
          {"isa", name_of(max_isa())},
          {"threads", at::get_num_threads()},
          {"memory_bytes", memory}};
}

io::Json run_provenance(const RunConfig& config, bool bf16, const io::Json& data) {
  io::Json settings = to_json(config);
  settings["data"].erase("train");
  settings["data"].erase("valid");
  for (const char* key : {"save_every", "keep", "log_every"}) settings["train"].erase(key);
  return {{"build", build_fingerprint()},
          {"versions", versions()},
          {"isa", name_of(max_isa())},
          {"torch_isa", at::get_cpu_capability()},
          {"threads", at::get_num_threads()},
          {"precision", bf16 ? "bf16" : "fp32"},
          {"config", settings},
          {"data", data}};
}

}  // namespace fovea::train
