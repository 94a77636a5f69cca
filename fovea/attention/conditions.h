#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "fovea/core/status.h"
#include "fovea/core/tensor_view.h"

namespace fovea {

inline std::string shape_text(const TensorView& t, int dims) {
  std::string text = "[";
  for (int i = 0; i < dims; ++i) {
    if (i > 0) text += ", ";
    text += std::to_string(t.shape[i]);
  }
  text += ']';
  return text;
}

/// Collects what is wrong, each as "<function>: expected …, got …". Texts are made only for what is
/// wrong: a call on a short sequence takes a few microseconds.
class Conditions {
 public:
  explicit Conditions(const char* function) : function_(function) {}

  void add(const std::string& expected, const std::string& got) {
    unmet_.push_back(std::string(function_) + ": expected " + expected + ", got " + got);
  }

  /// `letters`: the shape's name, of 3 or 4 extents.
  void expect_shape(const char* name, const TensorView& t, const char* letters, int dims, int64_t b,
                    int64_t h, int64_t s, int64_t d) {
    const int64_t wanted[4] = {b, h, s, d};
    if (std::equal(wanted, wanted + dims, t.shape)) return;
    TensorView view;
    std::copy_n(wanted, 4, view.shape);
    add(std::string(name) + ' ' + letters + " = " + shape_text(view, dims), shape_text(t, dims));
  }

  void expect_type(const char* name, const TensorView& t, DType dtype) {
    if (t.dtype != dtype) add(std::string(name) + " of " + name_of(dtype), name_of(t.dtype));
  }

  void expect_data(const char* name, const TensorView& t) {
    const bool elements = t.shape[0] > 0 && t.shape[1] > 0 && t.shape[2] > 0 && t.shape[3] > 0;
    if (elements && t.data == nullptr) add(std::string(name) + " with data", "a null pointer");
    if (t.shape[3] > 1 && t.strides[3] != 1) {
      add(std::string(name) + " with a contiguous last dimension",
          "stride " + std::to_string(t.strides[3]));
    }
  }

  void expect_operand(const char* name, const TensorView& t) {
    expect_data(name, t);
    const int64_t d = t.shape[3];
    if (d < 8 || d > 256 || d % 8 != 0) {
      add(std::string("last extent of ") + name + " a multiple of 8 in [8, 256]",
          std::to_string(d) + " in " + name + ' ' + shape_text(t, 4));
    }
  }

  /// Queries, keys and values: rows that the engines take, of one storage type.
  void expect_operands(const TensorView& q, const TensorView& k, const TensorView& v) {
    expect_operands(q, k, v, q.dtype);
  }
  /// Keys and values of `type`.
  void expect_operands(const TensorView& q, const TensorView& k, const TensorView& v, DType type) {
    expect_operand("q", q);
    expect_operand("k", k);
    expect_operand("v", v);
    if (q.dtype == DType::kI8) add("q of f32, bf16, f16 or f64", name_of(q.dtype));
    expect_type("k", k, type);
    expect_type("v", v, type);
  }

  std::vector<std::string> take() { return std::move(unmet_); }

 private:
  const char* function_;
  std::vector<std::string> unmet_;
};

/// All of them in one status.
inline Status invalid(const std::vector<std::string>& unmet) {
  std::string message;
  for (const std::string& condition : unmet) message += (message.empty() ? "" : "\n") + condition;
  return {ErrorCode::kInvalidInput, message};
}

}  // namespace fovea
