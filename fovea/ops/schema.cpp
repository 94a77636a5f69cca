// The operators' schemas, in one place. Kernels: *_kernels.cpp (CPU), *_meta.cpp, *_autograd.cpp.
#include <string>

#include <torch/library.h>

namespace {

// What every attention operator takes after its tensors. dropout_seed is a SymInt so that a seed
// that changes with every step does not make torch.compile specialise on it.
const std::string kCommon =
    "float? scale=None, float dropout_p=0.0, SymInt dropout_seed=0, bool top_left=False, "
    "Tensor? key_lengths=None, Tensor? intervals=None, Tensor? block_mask=None, "
    "Tensor? global_tokens=None";

}  // namespace

TORCH_LIBRARY(fovea, m) {
  const auto def = [&](const std::string& schema) { m.def(schema.c_str()); };
  def("attention(Tensor q, Tensor k, Tensor v, str pattern='full', *, " + kCommon +
      ") -> (Tensor o, Tensor lse)");
  def("attention_backward(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor o, "
      "Tensor lse, str pattern='full', *, " +
      kCommon + ") -> (Tensor d_q, Tensor d_k, Tensor d_v)");
  def("attention_varlen(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens_q, Tensor cu_seqlens_k, "
      "str pattern='full', *, " +
      kCommon + ") -> (Tensor o, Tensor lse)");
  def("attention_varlen_backward(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor "
      "o, Tensor lse, Tensor cu_seqlens_q, Tensor cu_seqlens_k, str pattern='full', *, " +
      kCommon + ") -> (Tensor d_q, Tensor d_k, Tensor d_v)");
  def("attention_qkv(Tensor qkv, int heads, Tensor cu_seqlens, str pattern='full', *, " + kCommon +
      ") -> (Tensor o, Tensor lse)");
  def("attention_qkv_backward(Tensor d_o, Tensor? d_lse, Tensor qkv, Tensor o, Tensor lse, int "
      "heads, Tensor cu_seqlens, str pattern='full', *, " +
      kCommon + ") -> Tensor d_qkv");
  def("dropout(Tensor x, float p, SymInt seed, *, Tensor? residual=None) -> Tensor");
  def("rotary(Tensor x, Tensor table, Tensor positions, int heads, bool inverse=False) -> Tensor");
}
