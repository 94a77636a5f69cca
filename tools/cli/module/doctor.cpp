#include <fstream>
#include <set>
#include <sstream>

#include "tools/cli/module/module_commands.h"
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <dlfcn.h>
#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include "fovea/attention/attention.h"
#include "fovea/core/cpu_features.h"
#include "fovea/core/parallel.h"
#include "fovea/train/precision.h"
#include "fovea/train/provenance.h"

namespace fovea::cli {
namespace {

std::string file_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Names of mapped libraries that are OpenMP runtimes.
std::set<std::string> openmp_runtimes() {
  std::set<std::string> names;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const std::string name = file_name(line);
    for (const char* runtime : {"libgomp", "libomp", "libiomp"}) {
      if (name.starts_with(runtime)) names.insert(name);
    }
  }
  return names;
}

// The runtime that our loops and torch's call: the first in the program's search order.
std::string openmp_in_use() {
  Dl_info info{};
  const bool found = dladdr(reinterpret_cast<const void*>(&omp_get_max_threads), &info) != 0;
  return found && info.dli_fname ? file_name(info.dli_fname) : "unknown";
}

int64_t available_memory() {
  std::ifstream meminfo("/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    std::istringstream in(line);
    std::string key;
    int64_t kib = 0;
    if (in >> key >> kib && key == "MemAvailable:") return kib * 1024;
  }
  return static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
}

std::string blas() {
  std::string config = at::show_config();
  std::string found;
  if (at::hasMKL()) found = "MKL";
  if (config.find("BLAS_INFO=open") != std::string::npos) found = "OpenBLAS";
  if (found.empty()) found = at::hasLAPACK() ? "a LAPACK library" : "none";
  return found + (at::hasMKLDNN() ? ", oneDNN" : "");
}

int processors() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

int doctor_command(const io::Json& options) {
  const CpuFeatures& cpu = cpu_features();
  const std::set<std::string> runtimes = openmp_runtimes();
  std::vector<std::string> advice;
  std::string supported;
  for (int i = 0; i < kIsaCount; ++i) {
    const Isa isa = static_cast<Isa>(i);
    if (cpu.supports(isa)) supported += (supported.empty() ? "" : ", ") + std::string(name_of(isa));
  }
  if (!cpu.avx2_fma) advice.push_back("the processor has no AVX2: expect a tenth of the speed");
  if (max_isa() == Isa::kScalar && cpu.avx2_fma) {
    advice.push_back("FOVEA_MAX_ISA keeps the program from using the processor's vector units");
  }
  if (num_threads() != processors()) {
    advice.push_back("threads and available processors differ: --threads " +
                     std::to_string(processors()) + " would use all");
  }
  if (runtimes.size() > 1) {
    std::string all;
    for (const std::string& name : runtimes) all += (all.empty() ? "" : ", ") + name;
    advice.push_back("several OpenMP runtimes are loaded (" + all +
                     "): thread pools may fight; rebuild fovea against LibTorch's own");
  }
  if (available_memory() < int64_t{2} << 30) {
    advice.push_back("less than 2 GiB of memory is free: train with fewer train.micro_tokens");
  }
  const io::Json versions = train::versions();
  const io::Json report = {
      {"fovea", versions["fovea"]},
      {"torch", versions["torch"]},
      {"compiler", versions["compiler"]},
      {"processor", cpu.model_name},
      {"isa_supported", supported},
      {"isa_in_use", name_of(max_isa())},
      {"engines",
       {{"f32", engine_name(DType::kF32)},
        {"bf16", engine_name(DType::kBF16)},
        {"f16", engine_name(DType::kF16)},
        {"f64", engine_name(DType::kF64)}}},
      {"torch_isa", at::get_cpu_capability()},
      {"cache_bytes", {{"l1d", cpu.l1d_bytes}, {"l2", cpu.l2_bytes}, {"l3", cpu.l3_bytes}}},
      {"processors", processors()},
      {"threads", num_threads()},
      {"torch_threads", at::get_num_threads()},
      {"openmp_runtimes", runtimes},
      {"openmp_in_use", openmp_in_use()},
      {"blas", blas()},
      {"memory_bytes", train::machine()["memory_bytes"]},
      {"memory_available_bytes", available_memory()},
      {"precision_auto", train::use_bf16("auto") ? "bf16" : "fp32"},
      {"advice", advice}};
  if (options.value("json", false)) {
    write_result(io::dump_json(report) + "\n");
    return 0;
  }
  for (const auto& item : report.items()) {
    if (item.key() == "advice") continue;
    const io::Json& v = item.value();
    write_result(item.key() + std::string(24 - std::min<size_t>(23, item.key().size()), ' ') +
                 (v.is_string() ? v.get<std::string>() : io::dump_json(v)) + "\n");
  }
  for (const std::string& line : advice) write_result("to fix: " + line + "\n");
  if (advice.empty()) write_result("nothing to fix\n");
  return 0;
}

}  // namespace fovea::cli
