// The operators' schemas, in one place. Kernels: *_kernels.cpp (CPU), *_meta.cpp, *_autograd.cpp.
#include <string>

#include <torch/library.h>

namespace {

// What every attention operator takes after its tensors. dropout_seed is a SymInt so that a seed
// that changes with every step does not make torch.compile specialise on it.
const std::string kCommon =
    "float? scale=None, float dropout_p=0.0, SymInt dropout_seed=0, bool top_left=False, "
    "Tensor? key_lengths=None, Tensor? intervals=None, Tensor? block_mask=None, "
    "Tensor? global_tokens=None, float softcap=0.0, Tensor? bias=None, "
    "Tensor? distance_bias=None, Tensor? alibi_slopes=None, Tensor? sinks=None, "
    "Tensor? scales=None, bool cosine=False, Tensor? additive=None, float negative_slope=1.0";

// What the backwards take and give beside that. The gradient of a dense bias is made only when
// asked for; those of modifications that were not given, or not asked for, are empty.
const std::string kBackward = kCommon + ", bool bias_gradient=False";
const std::string kModGradients =
    "Tensor d_bias, Tensor d_distance_bias, Tensor d_sinks, Tensor d_scales, Tensor d_additive)";

// Of linear attention. Results that the arguments do not ask for are empty.
const std::string kLinear =
    "Tensor? decay=None, Tensor? beta=None, Tensor? initial_state=None, "
    "Tensor? cu_seqlens_q=None, Tensor? cu_seqlens_k=None, str feature_map='elu+1', bool "
    "causal=False, bool normalise=True, "
    "float scale=1.0, float eps=1e-06";

}  // namespace

TORCH_LIBRARY(fovea, m) {
  const auto def = [&](const std::string& schema) { m.def(schema.c_str()); };
  m.def("version() -> str", [] { return std::string(FOVEA_VERSION); });
  def("attention(Tensor q, Tensor k, Tensor v, str pattern='full', *, " + kCommon +
      ") -> (Tensor o, Tensor lse)");
  // A backward named …_recorded is differentiable again; python/fovea implements it.
  for (const std::string kind : {"", "_recorded"}) {
    def("attention_backward" + kind +
        "(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, str "
        "pattern='full', *, " +
        kBackward + ") -> (Tensor d_q, Tensor d_k, Tensor d_v, " + kModGradients);
    def("attention_varlen_backward" + kind +
        "(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, Tensor "
        "cu_seqlens_q, Tensor cu_seqlens_k, str pattern='full', *, " +
        kBackward + ") -> (Tensor d_q, Tensor d_k, Tensor d_v, " + kModGradients);
    def("linear_attention_backward" + kind +
        "(Tensor d_o, Tensor? d_final_state, Tensor q, Tensor k, Tensor v, Tensor o, Tensor "
        "denominator, *, " +
        kLinear +
        ") -> (Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_decay, Tensor d_beta, Tensor "
        "d_initial_state)");
  }
  def("attention_varlen(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens_q, Tensor cu_seqlens_k, "
      "str pattern='full', *, " +
      kCommon + ") -> (Tensor o, Tensor lse)");
  def("attention_qkv(Tensor qkv, int heads, Tensor cu_seqlens, str pattern='full', *, " + kCommon +
      ") -> (Tensor o, Tensor lse)");
  def("attention_qkv_backward(Tensor d_o, Tensor? d_lse, Tensor qkv, Tensor o, Tensor lse, int "
      "heads, Tensor cu_seqlens, str pattern='full', *, " +
      kBackward + ") -> (Tensor d_qkv, " + kModGradients);
  def("attention_statistics(Tensor q, Tensor k, Tensor lse, str pattern='full', *, " + kCommon +
      ") -> (Tensor row_entropy, Tensor column_mass)");
  def("attention_merge(Tensor[] o, Tensor[] lse, *, Tensor? sinks=None) -> (Tensor o, Tensor lse)");
  def("linear_attention(Tensor q, Tensor k, Tensor v, *, " + kLinear +
      ") -> (Tensor o, Tensor denominator, Tensor final_state)");
  def("linear_memory(Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, Tensor gain, Tensor "
      "cu_seqlens, *, int left=0, int right=0, str feature_map='elu+1') -> (Tensor o, Tensor lse)");
  def("attention_qkv_memory(Tensor qkv, int heads, Tensor cu_seqlens, Tensor gain, Tensor? "
      "memory_q, "
      "Tensor? memory_k, int left, int right, str feature_map='elu+1', str pattern='full', *, " +
      kCommon + ") -> (Tensor o, Tensor lse)");
  def("linear_memory_backward(Tensor d_o, Tensor? d_lse, Tensor q, Tensor k, Tensor v, Tensor o, "
      "Tensor lse, Tensor gain, Tensor cu_seqlens, *, int left=0, int right=0, str "
      "feature_map='elu+1') -> (Tensor d_q, Tensor d_k, Tensor d_v, Tensor d_gain)");
  def("pattern_mask(Tensor like, str pattern, SymInt batch, SymInt heads, SymInt q_len, SymInt "
      "kv_len, *, bool top_left=False, Tensor? key_lengths=None, Tensor? intervals=None, Tensor? "
      "block_mask=None, Tensor? global_tokens=None, Tensor? cu_seqlens_q=None, Tensor? "
      "cu_seqlens_k=None) -> (Tensor mask, Tensor positions)");
  def("attention_dropout_mask(Tensor like, float p, SymInt seed, SymInt batch, SymInt heads, "
      "SymInt q_len, SymInt kv_len) -> Tensor");
  def("linear_attention_step(Tensor q, Tensor k, Tensor v, Tensor state, *, Tensor? decay=None, "
      "Tensor? beta=None, str feature_map='elu+1', bool normalise=True, float scale=1.0, float "
      "eps=1e-06) -> (Tensor o, Tensor state)");
  def("attention_decode(Tensor q, Tensor k_cache, Tensor v_cache, Tensor lengths, *, Tensor? "
      "block_table=None, bool ring=False, int window=0, float? scale=None, Tensor? k_scales=None, "
      "Tensor? v_scales=None) -> (Tensor o, Tensor lse)");
  def("quantise_rows(Tensor x) -> (Tensor rows, Tensor scales)");
  def("short_convolution(Tensor x, Tensor weight, Tensor cu_seqlens, Tensor? initial_state=None) "
      "-> "
      "(Tensor y, Tensor final_state)");
  def("short_convolution_backward(Tensor d_y, Tensor x, Tensor weight, Tensor cu_seqlens, Tensor? "
      "initial_state=None) -> (Tensor d_x, Tensor d_weight, Tensor d_initial_state)");
  def("dropout(Tensor x, float p, SymInt seed, *, Tensor? residual=None) -> Tensor");
  def("rotary(Tensor x, Tensor table, Tensor positions, int heads, bool inverse=False) -> Tensor");
}
