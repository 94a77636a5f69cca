#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fovea/io/file.h"

namespace fovea::io {

/// Element types of the safetensors format that we read and write, in the format's own order.
enum class StDType : uint8_t {
  kBool,
  kU8,
  kI8,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kF64,
  kI64,
  kU64,
};

/// Name in the file: "F32", "BF16", "BOOL", ...
const char* name_of(StDType dtype);

/// Bytes of one element.
int64_t size_of(StDType dtype);

/// One tensor: contiguous, row-major, little-endian. `data` points into memory owned by somebody
/// else (the mapped file when read, the caller's when written); aligned to the element size
/// when read.
struct StTensor {
  std::string name;
  StDType dtype = StDType::kF32;
  std::vector<int64_t> shape;  ///< empty = scalar
  const std::byte* data = nullptr;
  int64_t bytes = 0;
};

/// Reader of one safetensors file: maps it and gives views into it, without copying (but for the
/// tensors that an old or foreign writer left unaligned for their element type).
///
/// The header is untrusted: anything but a complete, gapless, non-overlapping description of the
/// file's bytes throws InputError with file, tensor and the fault, and memory is never allocated by
/// a length that the header merely claims. Limits: header 100 MB, 8 dimensions, names valid UTF-8.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);

  /// Same over bytes in memory, which must stay alive; `name` is for messages.
  SafetensorsFile(std::span<const std::byte> bytes, const std::string& name);

  /// All tensors, sorted by name.
  const std::vector<StTensor>& tensors() const { return tensors_; }

  /// The tensor of that name, or null.
  const StTensor* find(std::string_view name) const;

  /// The tensor of that name; throws InputError with the nearest name otherwise.
  const StTensor& at(std::string_view name) const;

  /// The `__metadata__` map.
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  void parse(std::span<const std::byte> bytes);

  std::string name_;
  std::unique_ptr<MappedFile> file_;
  std::vector<std::unique_ptr<std::byte[]>> copies_;  // of unaligned tensors
  std::vector<StTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

/// Writes tensors atomically, byte for byte as the `safetensors` package would (wide element types
/// first, then by name), so equal content gives equal files. `data` and `bytes` of each tensor must
/// be set, `bytes` must fit dtype and shape. Throws InputError for a duplicate or reserved name or
/// a wrong size, Error(kFailed) when the disk refuses.
void write_safetensors(const std::string& path, std::vector<StTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace fovea::io
