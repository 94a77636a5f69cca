#include "fovea/train/weights.h"

#include <cstring>

#include <ATen/core/Tensor.h>

#include "fovea/core/status.h"

namespace fovea::train {
namespace {

io::StDType file_dtype(const std::string& name, const at::Tensor& tensor) {
  if (tensor.scalar_type() == at::kFloat) return io::StDType::kF32;
  if (tensor.scalar_type() == at::kByte) return io::StDType::kU8;
  throw Error(ErrorCode::kFailed, "tensor \"" + name + "\": expected float32 or uint8");
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t extent : shape) {
    text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  }
  return text + "]";
}

}  // namespace

void save_tensors(const std::string& path, const NamedTensors& tensors,
                  const std::map<std::string, std::string>& metadata) {
  std::vector<io::StTensor> out;
  std::vector<at::Tensor> alive;
  for (const auto& [name, tensor] : tensors) {
    alive.push_back(tensor.detach().contiguous());
    const at::Tensor& t = alive.back();
    out.push_back({name, file_dtype(name, t), t.sizes().vec(),
                   static_cast<const std::byte*>(t.const_data_ptr()),
                   static_cast<int64_t>(t.nbytes())});
  }
  io::write_safetensors(path, std::move(out), metadata);
}

NamedTensors named_parameters(const torch::nn::Module& model) {
  NamedTensors parameters;
  for (const auto& item : model.named_parameters()) {
    parameters.emplace_back(item.key(), item.value());
  }
  return parameters;
}

void load_tensors(const std::string& path, const NamedTensors& tensors) {
  const io::SafetensorsFile file(path);
  for (const auto& [name, tensor] : tensors) {
    const io::StTensor& stored = file.at(name);
    if (stored.dtype != file_dtype(name, tensor) || stored.shape != tensor.sizes().vec()) {
      throw InputError(path + ": tensor \"" + name + "\": expected " +
                       io::name_of(file_dtype(name, tensor)) + " " +
                       shape_text(tensor.sizes().vec()) + ", found " + io::name_of(stored.dtype) +
                       " " + shape_text(stored.shape));
    }
  }
  if (file.tensors().size() != tensors.size()) {
    for (const io::StTensor& stored : file.tensors()) {
      bool known = false;
      for (const auto& [name, tensor] : tensors) known = known || name == stored.name;
      if (!known) throw InputError(path + ": unexpected tensor \"" + stored.name + "\"");
    }
  }
  for (const auto& [name, tensor] : tensors) {
    std::memcpy(tensor.mutable_data_ptr(), file.at(name).data, tensor.nbytes());
  }
}

}  // namespace fovea::train
