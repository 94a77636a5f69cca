#include "fovea/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "fovea/core/status.h"
#include "fovea/io/atomic_file.h"
#include "fovea/io/json.h"
#include "fovea/io/suggest.h"

namespace fovea::io {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian");

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
constexpr size_t kMaxDimensions = 8;
constexpr size_t kLengthBytes = 8;

struct DTypeInfo {
  const char* name;
  int64_t bytes;
};
constexpr DTypeInfo kDTypes[] = {{"BOOL", 1}, {"U8", 1},   {"I8", 1},  {"I16", 2}, {"U16", 2},
                                 {"F16", 2},  {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4},
                                 {"F64", 8},  {"I64", 8},  {"U64", 8}};

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) out += ", ";
    out += std::to_string(shape[i]);
  }
  return out + "]";
}

std::string quoted_name(std::string_view name) {
  constexpr size_t kShown = 80;
  return dump_json(Json(std::string(name.substr(0, kShown)))) + (name.size() > kShown ? "..." : "");
}

// Bytes of a tensor, or -1 when the product does not fit.
int64_t bytes_of(StDType dtype, const std::vector<int64_t>& shape) {
  int64_t bytes = size_of(dtype);
  for (const int64_t extent : shape) {
    if (extent < 0 || __builtin_mul_overflow(bytes, extent, &bytes)) return -1;
  }
  return bytes;
}

struct Entry {
  StTensor tensor;
  uint64_t begin = 0, end = 0;
};

// Reads the header event by event: what it may hold is so little that no tree is needed, and memory
// stays proportional to the header's own bytes.
class HeaderHandler {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  explicit HeaderHandler(const std::string& name) : name_(name) {}

  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool start_object(size_t) {
    if (state_ == State::kStart) {
      state_ = State::kRoot;
    } else if (state_ == State::kTensorValue) {
      entries.emplace_back();
      entries.back().tensor.name = key_;
      fields_ = 0;
      state_ = State::kTensor;
    } else if (state_ == State::kMetadataValue) {
      state_ = State::kMetadata;
    } else {
      fail("an unexpected object");
    }
    return true;
  }

  bool key(string_t& key) {
    if (state_ == State::kRoot) {
      if (!names_.insert(key).second) fail("the name " + quoted_name(key) + " twice");
      key_ = key;
      state_ = key == "__metadata__" ? State::kMetadataValue : State::kTensorValue;
    } else if (state_ == State::kMetadata) {
      if (metadata.contains(key)) fail("the metadata key " + quoted_name(key) + " twice");
      key_ = key;
      state_ = State::kMetadataText;
    } else {
      start_field(key);
    }
    return true;
  }

  bool string(string_t& value) {
    if (state_ == State::kMetadataText) {
      metadata.emplace(key_, value);
      state_ = State::kMetadata;
    } else if (state_ == State::kDType) {
      const auto* found = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                       [&](const DTypeInfo& info) { return value == info.name; });
      if (found == std::end(kDTypes)) fail("the unsupported dtype " + quoted_name(value));
      entries.back().tensor.dtype = static_cast<StDType>(found - std::begin(kDTypes));
      state_ = State::kTensor;
    } else {
      fail("an unexpected string");
    }
    return true;
  }

  bool start_array(size_t) {
    if (state_ == State::kShape) {
      state_ = State::kShapeItems;
    } else if (state_ == State::kOffsets) {
      state_ = State::kOffsetItems;
      offsets_.clear();
    } else {
      fail("an unexpected array");
    }
    return true;
  }

  bool number_unsigned(number_unsigned_t value) {
    if (state_ == State::kShapeItems) {
      std::vector<int64_t>& shape = entries.back().tensor.shape;
      if (value > uint64_t{INT64_MAX}) fail("a too large extent");
      if (shape.size() == kMaxDimensions) fail("more than 8 dimensions");
      shape.push_back(static_cast<int64_t>(value));
    } else if (state_ == State::kOffsetItems) {
      if (offsets_.size() == 2) fail("more than two data_offsets");
      offsets_.push_back(value);
    } else {
      fail("an unexpected number");
    }
    return true;
  }

  bool end_array() {
    if (state_ == State::kOffsetItems) {
      if (offsets_.size() != 2) fail("other than two data_offsets");
      entries.back().begin = offsets_[0];
      entries.back().end = offsets_[1];
    }
    state_ = State::kTensor;
    return true;
  }

  bool end_object() {
    if (state_ == State::kTensor && fields_ != kAllFields) {
      fail("a tensor without one of dtype, shape, data_offsets");
    }
    state_ = state_ == State::kRoot ? State::kEnd : State::kRoot;
    return true;
  }

  bool null() { fail("an unexpected null"); }
  bool boolean(bool) { fail("an unexpected true or false"); }
  bool number_integer(number_integer_t) { fail("a negative number"); }
  bool number_float(number_float_t, const string_t&) { fail("a number that is no integer"); }
  bool binary(binary_t&) { fail("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    const std::string message = error.what();
    const size_t reason = message.find(": ");
    throw InputError(name_ + ": safetensors header is not valid JSON at byte " +
                     std::to_string(kLengthBytes + position - 1) + ": " +
                     message.substr(reason == std::string::npos ? 0 : reason + 2, 200));
  }

 private:
  enum class State {
    kStart,
    kRoot,
    kTensorValue,
    kTensor,
    kDType,
    kShape,
    kShapeItems,
    kOffsets,
    kOffsetItems,
    kMetadataValue,
    kMetadata,
    kMetadataText,
    kEnd,
  };
  static constexpr unsigned kAllFields = 7;

  void start_field(const string_t& key) {
    static constexpr std::pair<const char*, State> kFields[] = {
        {"dtype", State::kDType}, {"shape", State::kShape}, {"data_offsets", State::kOffsets}};
    for (unsigned i = 0; i < 3; ++i) {
      if (key != kFields[i].first) continue;
      if (fields_ & (1u << i)) fail("the field " + quoted_name(key) + " twice");
      fields_ |= 1u << i;
      state_ = kFields[i].second;
      return;
    }
    fail("the unknown field " + quoted_name(key));
  }

  [[noreturn]] void fail(const std::string& found) const {
    throw InputError(name_ + ": safetensors header" +
                     (names_.empty() ? "" : ", entry " + quoted_name(current_name())) +
                     ": expected {name: {dtype, shape, data_offsets}}, found " + found);
  }
  std::string current_name() const {
    return state_ == State::kRoot || entries.empty() ? key_ : entries.back().tensor.name;
  }

  const std::string& name_;
  State state_ = State::kStart;
  std::string key_;
  std::set<std::string> names_;
  std::vector<uint64_t> offsets_;
  unsigned fields_ = 0;
};

// The tensors must cover the data exactly: no gap to hide bytes in, no overlap, nothing outside.
void check_layout(std::vector<Entry>& entries, uint64_t data_bytes, const std::string& name) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t position = 0;
  for (Entry& entry : entries) {
    StTensor& tensor = entry.tensor;
    const std::string where = name + ": tensor " + quoted_name(tensor.name) + ": ";
    const std::string range =
        "[" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + ")";
    if (entry.begin > entry.end || entry.end > data_bytes) {
      throw InputError(where + "data_offsets " + range + " lie outside the file's " +
                       std::to_string(data_bytes) + " data bytes; is the file truncated?");
    }
    if (entry.begin != position) {
      throw InputError(where + "data_offsets " + range +
                       (entry.begin < position ? " overlap" : " leave a gap to") +
                       " the tensor before, which ends at " + std::to_string(position));
    }
    tensor.bytes = bytes_of(tensor.dtype, tensor.shape);
    if (tensor.bytes < 0 || static_cast<uint64_t>(tensor.bytes) != entry.end - entry.begin) {
      throw InputError(where + name_of(tensor.dtype) + " of shape " + shape_text(tensor.shape) +
                       " needs " +
                       (tensor.bytes < 0 ? "more than 2^63" : std::to_string(tensor.bytes)) +
                       " bytes, data_offsets give " + std::to_string(entry.end - entry.begin));
    }
    position = entry.end;
  }
  if (position != data_bytes) {
    throw InputError(name + ": the tensors end at byte " + std::to_string(position) +
                     " of the data, the file has " + std::to_string(data_bytes));
  }
}

}  // namespace

const char* name_of(StDType dtype) { return kDTypes[static_cast<size_t>(dtype)].name; }

int64_t size_of(StDType dtype) { return kDTypes[static_cast<size_t>(dtype)].bytes; }

SafetensorsFile::SafetensorsFile(const std::string& path)
    : name_(path), file_(std::make_unique<MappedFile>(path)) {
  parse(file_->bytes());
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, const std::string& name)
    : name_(name) {
  parse(bytes);
}

void SafetensorsFile::parse(std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes) {
    throw InputError(name_ + ": expected a safetensors file, found " +
                     std::to_string(bytes.size()) + " bytes");
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), kLengthBytes);
  const uint64_t rest = bytes.size() - kLengthBytes;
  if (header_bytes > kMaxHeaderBytes || header_bytes > rest) {
    throw InputError(name_ + ": expected a safetensors header of at most " +
                     std::to_string(std::min(rest, kMaxHeaderBytes)) + " bytes, its length says " +
                     std::to_string(header_bytes) + "; the file is truncated or of another kind");
  }
  const auto* header = reinterpret_cast<const char*>(bytes.data() + kLengthBytes);
  if (header_bytes == 0 || header[0] != '{') {
    throw InputError(name_ + ": byte 8: expected '{', the start of a safetensors header");
  }
  HeaderHandler handler(name_);
  nlohmann::json::sax_parse(header, header + header_bytes, &handler);
  const std::byte* data = bytes.data() + kLengthBytes + header_bytes;
  check_layout(handler.entries, rest - header_bytes, name_);

  metadata_ = std::move(handler.metadata);
  tensors_.reserve(handler.entries.size());
  for (Entry& entry : handler.entries) {
    StTensor& tensor = entry.tensor;
    tensor.data = data + entry.begin;
    if (reinterpret_cast<uintptr_t>(tensor.data) % static_cast<uintptr_t>(size_of(tensor.dtype))) {
      copies_.push_back(std::make_unique<std::byte[]>(static_cast<size_t>(tensor.bytes) + 1));
      std::memcpy(copies_.back().get(), tensor.data, static_cast<size_t>(tensor.bytes));
      tensor.data = copies_.back().get();
    }
    tensors_.push_back(std::move(tensor));
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const StTensor& a, const StTensor& b) { return a.name < b.name; });
}

const StTensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const StTensor& tensor, std::string_view key) { return tensor.name < key; });
  return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

const StTensor& SafetensorsFile::at(std::string_view name) const {
  if (const StTensor* tensor = find(name)) return *tensor;
  std::vector<std::string> names;
  names.reserve(tensors_.size());
  for (const StTensor& tensor : tensors_) names.push_back(tensor.name);
  throw InputError(name_ + ": there is no tensor " + quoted_name(name) + " among its " +
                   std::to_string(names.size()) + suggestion(name, names));
}

void write_safetensors(const std::string& path, std::vector<StTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::sort(tensors.begin(), tensors.end(), [](const StTensor& a, const StTensor& b) {
    return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
  });
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t position = 0;
  for (const StTensor& tensor : tensors) {
    const std::string where = path + ": tensor " + quoted_name(tensor.name) + ": ";
    if (tensor.name == "__metadata__" || header.contains(tensor.name)) {
      throw InputError(where + "the name is reserved or used twice");
    }
    if (tensor.shape.size() > kMaxDimensions ||
        tensor.bytes != bytes_of(tensor.dtype, tensor.shape)) {
      throw InputError(where + name_of(tensor.dtype) + " of shape " + shape_text(tensor.shape) +
                       " cannot have " + std::to_string(tensor.bytes) + " bytes");
    }
    header[tensor.name] = {{"dtype", name_of(tensor.dtype)},
                           {"shape", tensor.shape},
                           {"data_offsets", {position, position + tensor.bytes}}};
    position += tensor.bytes;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const Json::type_error& error) {
    throw InputError(path +
                     ": a tensor's name or the metadata is not valid UTF-8: " + error.what());
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data starts aligned
  const uint64_t header_bytes = text.size();
  AtomicFile file(path);
  file.write(&header_bytes, sizeof header_bytes);
  file.write(text);
  for (const StTensor& tensor : tensors) file.write(tensor.data, static_cast<size_t>(tensor.bytes));
  file.commit();
}

}  // namespace fovea::io
