#include "fovea/attention/call_report.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "fovea/core/log.h"
#include "fovea/core/parallel.h"

namespace fovea {
namespace {

bool verbose() {
  const char* text = std::getenv("FOVEA_VERBOSE");
  return text && *text && std::string_view(text) != "0";
}

}  // namespace

CallReport::CallReport(const kernels::Engine& engine, std::function<std::string()> describe)
    : engine_(engine), describe_(verbose() ? std::move(describe) : nullptr) {
  start_ = std::chrono::steady_clock::now();
}

CallReport::~CallReport() {
  if (!describe_) return;
  const std::chrono::duration<double, std::milli> ms = std::chrono::steady_clock::now() - start_;
  char end[100];
  std::snprintf(end, sizeof end, " engine %s threads %d ms %.3f", engine_.name, num_threads(),
                ms.count());
  log_info("attention " + describe_() + end);
}

std::string sizes_text(int64_t batch, int64_t heads, int64_t kv_heads, int64_t q_len,
                       int64_t kv_len, int64_t head_dim, int64_t value_dim, DType dtype) {
  std::string text;
  const auto add = [&](const char* name, int64_t n) { text += name + std::to_string(n) + '_'; };
  add("b", batch);
  add("h", heads);
  add("kv", kv_heads);
  add("q", q_len);
  add("k", kv_len);
  add("d", head_dim);
  add("v", value_dim);
  return text + name_of(dtype);
}

}  // namespace fovea
