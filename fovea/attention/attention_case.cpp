#include "fovea/attention/attention_case.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "fovea/core/philox.h"
#include "fovea/core/status.h"

namespace fovea {
namespace {

[[noreturn]] void fail(std::string_view id, const std::string& expected, std::string_view got) {
  throw InputError("case \"" + std::string(id) + "\": expected " + expected + ", got \"" +
                   std::string(got) + "\" (form: b1_h12_q2048_k2048_d64_f32_window256_fwd)");
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string_view::npos) return parts;
    begin = end + 1;
  }
}

bool number(std::string_view text, int64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && *value >= 0;
}

/// "window128-0" to "window(128,0)".
std::string term_to_text(std::string_view id, std::string_view term) {
  const size_t digits = term.find_first_of("0123456789");
  const std::string name(term.substr(0, digits));
  if (name.empty()) fail(id, "a pattern", term);
  if (digits == std::string_view::npos) return name;
  std::string arguments(term.substr(digits));
  if (name == "causal") {
    int64_t keys = 0;
    if (!number(arguments, &keys) || keys < 1) fail(id, "causalN with N >= 1", term);
    return "window(" + std::to_string(keys - 1) + ",0)";
  }
  std::replace(arguments.begin(), arguments.end(), '-', ',');
  return name + "(" + arguments + ")";
}

std::string pattern_to_text(std::string_view id, std::string_view form) {
  std::string text;
  for (const std::string_view alternative : split(form, '+')) {
    if (!text.empty()) text += " | ";
    bool first = true;
    for (const std::string_view term : split(alternative, '.')) {
      if (!first) text += " & ";
      text += term_to_text(id, term);
      first = false;
    }
  }
  return Pattern::parse(text).to_string();
}

/// "window(128,0)" to "window128-0", and so on; the inverse of pattern_to_text().
std::string text_to_pattern(const std::string& text) {
  std::string form;
  for (const std::string_view alternative : split(text, '|')) {
    if (!form.empty()) form += '+';
    bool first = true;
    for (const std::string_view raw : split(alternative, '&')) {
      std::string term(raw);
      std::erase(term, ' ');
      int64_t a = 0, b = 0;
      const size_t open = term.find('('), comma = term.find(',');
      if (term.starts_with("window(") && comma != std::string::npos &&
          number(std::string_view(term).substr(open + 1, comma - open - 1), &a) &&
          number(std::string_view(term).substr(comma + 1, term.size() - comma - 2), &b)) {
        if (a == b) term = "window" + std::to_string(a);
        if (b == 0 && a > 0) term = "causal" + std::to_string(a + 1);
      }
      std::erase(term, '(');
      std::erase(term, ')');
      std::replace(term.begin(), term.end(), ',', '-');
      if (!first) form += '.';
      form += term;
      first = false;
    }
  }
  return form;
}

/// A number in [0, limit) that depends on the index alone.
int64_t draw(uint32_t index, uint32_t stream, int64_t limit) {
  return philox4x32({index, stream, 0, 0}, {1234, 5678})[0] % std::max<int64_t>(1, limit);
}

/// Bounds of documents of uneven lengths: cuts of [0, len] at ascending fractions.
std::vector<int32_t> cumulative(int64_t len, int documents) {
  std::vector<int32_t> bounds{0};
  for (int i = 1; i < documents; ++i) {
    const int64_t jitter = draw(static_cast<uint32_t>(i), 0, std::max<int64_t>(1, len / documents));
    bounds.push_back(static_cast<int32_t>(
        std::max<int64_t>(bounds.back(), std::min(len, (i - 1) * len / documents + jitter))));
  }
  bounds.push_back(static_cast<int32_t>(len));
  return bounds;
}

/// Bounds of documents of these lengths.
std::vector<int32_t> bounds_of(const std::vector<int64_t>& lengths) {
  std::vector<int32_t> bounds{0};
  for (const int64_t length : lengths) {
    bounds.push_back(bounds.back() + static_cast<int32_t>(length));
  }
  return bounds;
}

/// "biashq": letters among b, h, q, each at most once and in this order.
bool parse_bias(std::string_view letters, AttentionCase* c) {
  const auto take = [&](char letter) {
    const bool here = letters.starts_with(letter);
    letters.remove_prefix(here);
    return here;
  };
  c->bias = true;
  c->bias_batch = take('b');
  c->bias_heads = take('h');
  c->bias_queries = take('q');
  return letters.empty();
}

/// "100-28-…": lengths of documents that fill queries and keys.
bool parse_documents(std::string_view lengths, AttentionCase* c) {
  int64_t total = 0;
  for (const std::string_view length : split(lengths, '-')) {
    int64_t n = 0;
    if (!number(length, &n) || n < 1 || n > c->q_len - total) return false;
    c->documents.push_back(n);
    total += n;
  }
  return total == c->q_len && total == c->kv_len;
}

/// One of the options after fwd or bwd.
bool parse_option(std::string_view option, AttentionCase* c) {
  int64_t n = 0;
  const auto numbered = [&](std::string_view name) {
    return option.starts_with(name) && number(option.substr(name.size()), &n);
  };
  if (option == "topleft") {
    c->alignment = Alignment::kTopLeft;
  } else if (option == "bshd") {
    c->bshd = true;
  } else if (option == "high") {
    c->precision = Float32Precision::kHigh;
  } else if (option == "medium") {
    c->precision = Float32Precision::kMedium;
  } else if (option == "cosine") {
    c->cosine = true;
  } else if (option == "scales") {
    c->scales = true;
  } else if (option == "additive") {
    c->additive = true;
  } else if (option == "alibi") {
    c->alibi = true;
  } else if (option == "sinks") {
    c->sinks = true;
  } else if (numbered("drop") && n < 100) {
    c->dropout_percent = static_cast<int>(n);
  } else if (numbered("leaky") && n < 100) {
    c->leaky = static_cast<int>(n);
  } else if (numbered("softcap") && n > 0) {
    c->softcap = static_cast<int>(n);
  } else if (numbered("dist")) {
    c->distance = n;
  } else if (option.starts_with("docs")) {
    return parse_documents(option.substr(4), c);
  } else {
    return option.starts_with("bias") && parse_bias(option.substr(4), c);
  }
  return true;
}

}  // namespace

AttentionCase AttentionCase::parse(std::string_view id) {
  AttentionCase c;
  const std::vector<std::string_view> fields = split(id, '_');
  size_t i = 0;
  const auto size = [&](std::string_view prefix, int64_t* value, bool required) {
    const bool here = i < fields.size() && fields[i].starts_with(prefix) &&
                      number(fields[i].substr(prefix.size()), value);
    if (!here && required) {
      fail(id, std::string(prefix) + "N as field " + std::to_string(i + 1),
           i < fields.size() ? fields[i] : "");
    }
    i += here;
    return here;
  };
  size("b", &c.batch, true);
  size("h", &c.heads, true);
  if (!size("kv", &c.kv_heads, false)) c.kv_heads = c.heads;
  size("q", &c.q_len, true);
  size("k", &c.kv_len, true);
  size("d", &c.head_dim, true);
  if (!size("v", &c.value_dim, false)) c.value_dim = c.head_dim;

  const std::string_view type = i < fields.size() ? fields[i] : "";
  if (type == "f32") {
    c.dtype = DType::kF32;
  } else if (type == "bf16") {
    c.dtype = DType::kBF16;
  } else if (type == "f16") {
    c.dtype = DType::kF16;
  } else if (type == "f64") {
    c.dtype = DType::kF64;
  } else {
    fail(id, "a storage type f32, bf16, f16 or f64", type);
  }
  std::string form;
  for (++i; i < fields.size() && fields[i] != "fwd" && fields[i] != "bwd"; ++i) {
    form += (form.empty() ? "" : "_") + std::string(fields[i]);
  }
  if (i == fields.size()) fail(id, "fwd or bwd after the pattern", fields.back());
  c.pattern = pattern_to_text(id, form);
  c.backward = fields[i] == "bwd";
  for (++i; i < fields.size(); ++i) {
    if (parse_option(fields[i], &c)) continue;
    fail(id,
         "an option dropN (N < 100), topleft, bshd, high, medium, cosine, scales, additive, leakyN "
         "(N < 100), softcapN, alibi, sinks, distN, docsA-B-… (adding up to the queries and the "
         "keys) or bias[b][h][q]",
         fields[i]);
  }
  return c;
}

std::string AttentionCase::to_string() const {
  std::string id =
      "b" + std::to_string(batch) + "_h" + std::to_string(heads) + "_kv" +
      std::to_string(kv_heads) + "_q" + std::to_string(q_len) + "_k" + std::to_string(kv_len) +
      "_d" + std::to_string(head_dim) + "_v" + std::to_string(value_dim) + '_' + name_of(dtype) +
      '_' + text_to_pattern(Pattern::parse(pattern).to_string()) + (backward ? "_bwd" : "_fwd");
  if (dropout_percent > 0) id += "_drop" + std::to_string(dropout_percent);
  if (alignment == Alignment::kTopLeft) id += "_topleft";
  if (bshd) id += "_bshd";
  for (size_t i = 0; i < documents.size(); ++i) {
    id += (i == 0 ? "_docs" : "-") + std::to_string(documents[i]);
  }
  if (precision != Float32Precision::kHighest) id += std::string("_") + name_of(precision);
  if (cosine) id += "_cosine";
  if (scales) id += "_scales";
  if (additive) id += "_additive";
  if (leaky < 100) id += "_leaky" + std::to_string(leaky);
  if (softcap > 0) id += "_softcap" + std::to_string(softcap);
  if (alibi) id += "_alibi";
  if (sinks) id += "_sinks";
  if (distance >= 0) id += "_dist" + std::to_string(distance);
  if (bias) {
    id += "_bias";
    if (bias_batch) id += 'b';
    if (bias_heads) id += 'h';
    if (bias_queries) id += 'q';
  }
  return id;
}

CaseScoreMod::CaseScoreMod(const AttentionCase& c, DType type) {
  mod_.cosine = c.cosine;
  mod_.softcap = c.softcap;
  mod_.negative_slope = c.leaky / 100.0;
  for (int64_t h = 0; h < c.heads; ++h) {
    if (c.scales) scales_.push_back(0.25 * static_cast<double>(h % 4) - 0.5);  // one of them 0
    if (c.alibi) slopes_.push_back(std::ldexp(1.0, -1 - static_cast<int>(h % 8)));
    if (c.sinks)
      sinks_.push_back(static_cast<double>(draw(static_cast<uint32_t>(h), 5, 33)) / 4 - 4);
  }
  if (c.scales) mod_.scales = scales_.data();
  if (c.alibi) mod_.alibi_slopes = slopes_.data();
  if (c.sinks) mod_.sinks = sinks_.data();
  if (c.bias) {
    mod_.bias = bias_view(c.bias_batch ? c.batch : 1, c.bias_heads ? c.heads : 1,
                          c.bias_queries ? c.q_len : 1, c.kv_len, 6, type, &bias_);
  }
  const DType wide = type == DType::kF64 ? type : DType::kF32;
  if (c.distance >= 0) {
    mod_.distance_bias = bias_view(1, c.heads, 1, 2 * c.distance + 1, 7, wide, &distance_bias_);
  }
  if (c.additive) mod_.additive = bias_view(1, c.heads, 1, c.head_dim, 8, wide, &additive_);
}

TensorView CaseScoreMod::bias_view(int64_t b, int64_t h, int64_t rows, int64_t last,
                                   uint32_t stream, DType type, std::vector<char>* bytes) {
  const int64_t count = b * h * rows * last;
  bytes->resize(static_cast<size_t>(count * size_of(type)));
  for (int64_t i = 0; i < count; ++i) {
    // Multiples of 1/16 in [-2, 2): exact in every type.
    const double x = static_cast<double>(draw(static_cast<uint32_t>(i), stream, 64)) / 16 - 2;
    char* at = bytes->data() + i * size_of(type);
    if (type == DType::kF64) {
      *reinterpret_cast<double*>(at) = x;
    } else if (type == DType::kF32) {
      *reinterpret_cast<float*>(at) = static_cast<float>(x);
    } else if (type == DType::kF16) {
      *reinterpret_cast<Float16*>(at) = Float16(static_cast<float>(x));
    } else {
      *reinterpret_cast<BFloat16*>(at) = BFloat16(static_cast<float>(x));
    }
  }
  return contiguous_view(bytes->data(), type, b, h, rows, last);
}

CaseInputs::CaseInputs(const AttentionCase& c) {
  const int documents = static_cast<int>(std::clamp<int64_t>(c.kv_len / 48, 1, 16));
  cu_seqlens_q_ = c.documents.empty() ? cumulative(c.q_len, documents) : bounds_of(c.documents);
  cu_seqlens_k_ = c.documents.empty() ? cumulative(c.kv_len, documents) : bounds_of(c.documents);
  for (int64_t b = 0; b < c.batch; ++b) {
    key_lengths_.push_back(static_cast<int32_t>(draw(static_cast<uint32_t>(b), 1, c.kv_len + 1)));
  }
  for (int64_t q = 0; q < c.q_len; ++q) {
    const int64_t lo = draw(static_cast<uint32_t>(q), 2, c.kv_len);
    const int64_t count = draw(static_cast<uint32_t>(q), 3, 40);
    intervals_.push_back(static_cast<int32_t>(lo));
    intervals_.push_back(static_cast<int32_t>(std::min(c.kv_len, lo + count)));
  }
  for (const int64_t token : {int64_t{0}, c.kv_len / 3, c.kv_len - 1}) {
    const auto position = static_cast<int32_t>(std::max<int64_t>(0, token));
    if (global_tokens_.empty() || global_tokens_.back() < position) {
      global_tokens_.push_back(position);
    }
  }
  view_.cu_seqlens_q = cu_seqlens_q_;
  view_.cu_seqlens_k = cu_seqlens_k_;
  view_.key_lengths = key_lengths_;
  view_.intervals = intervals_;
  view_.global_tokens = global_tokens_;

  // block_mask(size): blocks of the size that the pattern names.
  int64_t block = 0;
  if (const size_t at = c.pattern.find("block_mask("); at != std::string::npos) {
    block = std::max(1, std::atoi(c.pattern.c_str() + at + 11));
    const int64_t rows = (c.q_len + block - 1) / block, columns = (c.kv_len + block - 1) / block;
    for (int64_t i = 0; i < rows * columns; ++i) {
      block_mask_.push_back(draw(static_cast<uint32_t>(i), 4, 3) == 0);
    }
    view_.block_mask = block_mask_;
    view_.block_mask_columns = columns;
  }
}

PlanSet CaseInputs::plans(const AttentionCase& c) const {
  return PlanSet::build(Pattern::parse(c.pattern), c.batch, c.heads, c.q_len, c.kv_len, c.alignment,
                        view_);
}

}  // namespace fovea
