#pragma once

#include <string>

namespace fovea::train {

/// Whether matrix products run in bf16: "fp32", "bf16", or "auto", which is bf16 where the machine
/// has bf16 products (avx512_bf16, AMX) and FOVEA_MAX_ISA allows them, fp32 elsewhere. Throws
/// InputError for another name.
bool use_bf16(const std::string& precision);

/// Torch's CPU autocast to bf16 for the life of the object, when `on`; its cache of converted
/// weights ends with it, so none outlives an update.
class AutocastScope {
 public:
  explicit AutocastScope(bool on);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  bool on_;
};

}  // namespace fovea::train
