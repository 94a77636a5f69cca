// Attention to caches of every layout, against the oracle over the same positions in order.

#include "fovea/attention/decode.h"

#include <cstring>
#include <numeric>

#include "tests/support/engines.h"
#include "tests/support/tolerance.h"
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fovea::testing {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

enum class Layout { kContiguous, kRing, kPaged };

struct DecodeCase {
  const char* name;
  int64_t heads, kv_heads, q_len, head_dim, value_dim, window;
  std::vector<int32_t> lengths;
  Layout layout;
  int64_t rows;  ///< capacity, of a page where paged
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// A cache in the layout of the case; every row that no query may read holds NaN. Of i8: the rows
/// of an f32 cache quantised, which for those of NaN gives the scale NaN.
class Cache {
 public:
  Cache(const DecodeCase& c, DType dtype)
      : c_(c),
        quantised_(dtype == DType::kI8),
        batch_(static_cast<int64_t>(c.lengths.size())),
        blocks_(ceil_div(*std::max_element(c.lengths.begin(), c.lengths.end()) + 1, c.rows)),
        outer_(c.layout == Layout::kPaged ? batch_ * blocks_ : batch_),
        k_(quantised_ ? DType::kF32 : dtype, outer_, c.kv_heads, c.rows, c.head_dim),
        v_(quantised_ ? DType::kF32 : dtype, outer_, c.kv_heads, c.rows, c.value_dim),
        k_rows_(quantised_ ? k_.view().shape[0] * c.kv_heads * c.rows * c.head_dim : 0),
        v_rows_(quantised_ ? v_.view().shape[0] * c.kv_heads * c.rows * c.value_dim : 0),
        k_scales_(DType::kF32, outer_, c.kv_heads, c.rows, 1, /*bshd=*/true),
        v_scales_(DType::kF32, outer_, c.kv_heads, c.rows, 1) {
    table_.resize(static_cast<size_t>(batch_ * blocks_));
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), std::mt19937(4));
    std::mt19937 random(5);
    std::normal_distribution<double> normal;
    for (int64_t b = 0; b < batch_; ++b) {
      for (int64_t p = oldest(b); p < c.lengths[static_cast<size_t>(b)]; ++p) {
        for (int64_t h = 0; h < c.kv_heads; ++h) {
          const auto [outer, row] = place(b, p);
          for (int64_t d = 0; d < c.head_dim; ++d) k_.put(outer, h, row, d, normal(random));
          for (int64_t d = 0; d < c.value_dim; ++d) v_.put(outer, h, row, d, normal(random));
        }
      }
    }
    if (!quantised_) return;
    EXPECT_TRUE(quantise_rows(k_.view(), rows_view(k_, k_rows_), k_scales_.view()).ok());
    EXPECT_TRUE(quantise_rows(v_.view(), rows_view(v_, v_rows_), v_scales_.view()).ok());
  }

  KvCache cache() const {
    KvCache cache{k_.view(), v_.view()};
    if (quantised_) {
      cache = {rows_view(k_, k_rows_), rows_view(v_, v_rows_), k_scales_.view(), v_scales_.view()};
    }
    cache.ring = c_.layout == Layout::kRing;
    if (c_.layout == Layout::kPaged) {
      cache.block_table = table_.data();
      cache.blocks = blocks_;
    }
    return cache;
  }

  /// First position that any query sees.
  int64_t oldest(int64_t b) const {
    const int64_t length = c_.lengths[static_cast<size_t>(b)];
    return c_.window > 0 ? std::max<int64_t>(0, length - c_.q_len - c_.window + 1) : 0;
  }

  /// Keys of a sequence from `oldest` on, [Hkv, positions, D]: as the engine has them, or as they
  /// were before they were quantised.
  std::vector<double> keys(int64_t b, bool original = false) const {
    return sequence(k_, k_rows_, k_scales_, b, original);
  }
  std::vector<double> values(int64_t b, bool original = false) const {
    return sequence(v_, v_rows_, v_scales_, b, original);
  }
  /// Largest scale of a sequence's keys or values.
  double k_step(int64_t b) const { return step(k_scales_, b); }
  double v_step(int64_t b) const { return step(v_scales_, b); }

 private:
  static TensorView rows_view(const Tensor& x, const std::vector<int8_t>& rows) {
    TensorView view = x.view();
    view.data = const_cast<int8_t*>(rows.data());
    view.dtype = DType::kI8;
    return view;
  }

  std::vector<double> sequence(const Tensor& x, const std::vector<int8_t>& rows,
                               const Tensor& scales, int64_t b, bool original) const {
    std::vector<double> out;
    const int64_t* t = x.view().strides;
    for (int64_t h = 0; h < c_.kv_heads; ++h) {
      for (int64_t p = oldest(b); p < c_.lengths[static_cast<size_t>(b)]; ++p) {
        const auto [outer, row] = place(b, p);
        for (int64_t d = 0; d < x.view().shape[3]; ++d) {
          const auto at = static_cast<size_t>(outer * t[0] + h * t[1] + row * t[2] + d);
          out.push_back(quantised_ && !original ? rows[at] * scales.get(outer, h, row, 0)
                                                : x.get(outer, h, row, d));
        }
      }
    }
    return out;
  }

  double step(const Tensor& scales, int64_t b) const {
    double most = 0;
    for (int64_t p = oldest(b); p < c_.lengths[static_cast<size_t>(b)]; ++p) {
      for (int64_t h = 0; h < c_.kv_heads; ++h) {
        const auto [outer, row] = place(b, p);
        most = std::max(most, scales.get(outer, h, row, 0));
      }
    }
    return most;
  }

  std::pair<int64_t, int64_t> place(int64_t b, int64_t p) const {
    if (c_.layout == Layout::kPaged) {
      return {table_[static_cast<size_t>(b * blocks_ + p / c_.rows)], p % c_.rows};
    }
    return {b, p % c_.rows};
  }

  const DecodeCase& c_;
  bool quantised_;
  int64_t batch_, blocks_, outer_;
  Tensor k_, v_;
  std::vector<int8_t> k_rows_, v_rows_;
  Tensor k_scales_, v_scales_;
  std::vector<int32_t> table_;
};

struct DecodeRun {
  /// `type` of the queries, and of the cache unless that is `quantised`.
  DecodeRun(const DecodeCase& the_case, DType type, bool quantised = false)
      : c(the_case),
        dtype(type),
        batch(static_cast<int64_t>(c.lengths.size())),
        cache(c, quantised ? DType::kI8 : type),
        q(type, batch, c.heads, c.q_len, c.head_dim),
        o(type, batch, c.heads, c.q_len, c.value_dim, /*bshd=*/true),
        lse(type == DType::kF64 ? type : DType::kF32, batch, c.heads, c.q_len, 1) {
    q.fill(3);
  }
  DecodeProblem problem() const {
    DecodeProblem p;
    p.q = q.view();
    p.cache = cache.cache();
    p.lengths = c.lengths.data();
    p.window = c.window;
    return p;
  }
  Status decode() const { return attention_decode(problem(), o.view(), lse.view()); }

  /// `original`: of the cache before it was quantised.
  reference::Problem oracle(int64_t b, bool original = false) const {
    reference::Problem p;
    p.heads = c.heads;
    p.kv_heads = c.kv_heads;
    p.q_len = c.q_len;
    p.kv_len = c.lengths[static_cast<size_t>(b)] - cache.oldest(b);
    p.head_dim = c.head_dim;
    p.value_dim = c.value_dim;
    const std::vector<double> all = q.values();
    const int64_t size = c.heads * c.q_len * c.head_dim;
    p.q.assign(all.begin() + b * size, all.begin() + (b + 1) * size);
    p.k = cache.keys(b, original);
    p.v = cache.values(b, original);
    p.pattern = Pattern::parse(c.window > 0 ? "window(" + std::to_string(c.window - 1) + ",0)"
                                            : std::string("causal"));
    return p;
  }

  const DecodeCase& c;
  DType dtype;
  int64_t batch;
  Cache cache;
  Tensor q, o, lse;
};

/// Largest sum of sizes of a row of `dim` values.
double max_sum(const std::vector<double>& x, int64_t dim) {
  double max = 0;
  for (size_t i = 0; i < x.size(); i += static_cast<size_t>(dim)) {
    double sum = 0;
    for (int64_t d = 0; d < dim; ++d) sum += std::fabs(x[i + static_cast<size_t>(d)]);
    max = std::max(max, sum);
  }
  return max;
}

/// `original`: the oracle has the cache before it was quantised, within the bound of
/// quantise_rows().
void expect_oracle(const DecodeRun& run, Operands operands, bool original = false) {
  for (int64_t b = 0; b < run.batch; ++b) {
    if (run.c.lengths[static_cast<size_t>(b)] == 0) {  // sees nothing
      ASSERT_EQ(run.o.get(b, 0, 0, 0), 0);
      ASSERT_EQ(run.lse.get(b, 0, 0, 0), -std::numeric_limits<double>::infinity());
      continue;
    }
    const reference::Problem p = run.oracle(b, original);
    const reference::Forward wanted = reference::attention_forward(p);
    const WeightErrors errors(p, run.dtype, operands);
    // A span's lse is rounded, and again subtracted from the largest, where spans are joined.
    const double join = 2 * errors.u * max_abs(wanted.lse);
    double o_error = errors.o(p, wanted) + join * max_abs(p.v);
    double lse_error = errors.lse(wanted) + join;
    if (original) {
      const double move = errors.scale * max_sum(p.q, p.head_dim) * run.cache.k_step(b) / 2;
      o_error += run.cache.v_step(b) / 2 + std::expm1(2 * move) * max_abs(p.v);
      lse_error += move;
    }
    for (int64_t h = 0, i = 0; h < run.c.heads; ++h) {
      for (int64_t s = 0; s < run.c.q_len; ++s) {
        const double lse = wanted.lse[static_cast<size_t>(h * run.c.q_len + s)];
        if (lse != run.lse.get(b, h, s, 0)) {
          ASSERT_NEAR(run.lse.get(b, h, s, 0), lse, lse_error) << b << " " << h << " " << s;
        }
        for (int64_t d = 0; d < run.c.value_dim; ++d, ++i) {
          ASSERT_NEAR(run.o.get(b, h, s, d), wanted.o[static_cast<size_t>(i)], o_error)
              << "sequence " << b << " head " << h << " query " << s << " feature " << d;
        }
      }
    }
  }
}

class DecodeTest : public ::testing::TestWithParam<DecodeCase> {};

TEST_P(DecodeTest, MatchesOracleOnEveryEngine) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16, DType::kF64}) {
    for (const Isa isa : runnable_isas()) {
      if (dtype == DType::kF64 && isa != Isa::kScalar) continue;
      const ForcedIsa forced(isa);
      SCOPED_TRACE(std::string(name_of(dtype)) + " on " + name_of(isa));
      const DecodeRun run(GetParam(), dtype);
      const Status status = run.decode();
      ASSERT_TRUE(status.ok()) << status.message();
      expect_oracle(run, operands_of(isa, dtype, Float32Precision::kHighest));
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(DecodeTest, ReadsInt8OnEveryEngine) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const Isa isa : runnable_isas()) {
      const ForcedIsa forced(isa);
      SCOPED_TRACE(std::string(name_of(dtype)) + " queries on " + name_of(isa));
      const DecodeRun run(GetParam(), dtype, /*quantised=*/true);
      const Status status = run.decode();
      ASSERT_TRUE(status.ok()) << status.message();
      expect_oracle(run, Operands::kStored);
      expect_oracle(run, Operands::kStored, /*original=*/true);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(DecodeTest, BitsDoNotDependOnThreads) {
  const DecodeRun run(GetParam(), DType::kF32);
  const ForcedThreads one(1);
  ASSERT_TRUE(run.decode().ok());
  const std::vector<char> o = run.o.bytes(), lse = run.lse.bytes();
  const ForcedThreads three(3);
  ASSERT_TRUE(run.decode().ok());
  EXPECT_EQ(o, run.o.bytes());
  EXPECT_EQ(lse, run.lse.bytes());
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, DecodeTest,
    ::testing::Values(
        DecodeCase{"one", 4, 4, 1, 64, 64, 0, {1, 63, 64, 130, 0}, Layout::kContiguous, 200},
        DecodeCase{"grouped", 12, 3, 1, 24, 40, 0, {77, 300}, Layout::kContiguous, 320},
        DecodeCase{"spans", 2, 1, 1, 64, 64, 0, {2500, 1025, 1024}, Layout::kContiguous, 2500},
        DecodeCase{"chunk", 4, 2, 70, 32, 32, 0, {70, 200, 40}, Layout::kContiguous, 256},
        DecodeCase{"window", 2, 2, 1, 32, 32, 100, {30, 100, 101, 1999}, Layout::kContiguous, 2000},
        DecodeCase{"window chunk", 6, 2, 50, 16, 8, 33, {300, 50, 83}, Layout::kContiguous, 300},
        DecodeCase{"ring", 4, 2, 1, 32, 32, 90, {20, 90, 91, 1000, 123}, Layout::kRing, 90},
        DecodeCase{"ring chunk", 2, 1, 40, 32, 32, 61, {100, 40, 777}, Layout::kRing, 100},
        DecodeCase{"small pages", 4, 2, 1, 32, 64, 0, {1, 16, 17, 300, 129}, Layout::kPaged, 16},
        DecodeCase{"large pages", 2, 2, 3, 64, 64, 0, {128, 1300, 5}, Layout::kPaged, 128},
        DecodeCase{"paged window", 2, 1, 5, 32, 32, 70, {500, 71, 5}, Layout::kPaged, 10}),
    [](const auto& info) {
      std::string name = info.param.name;
      std::replace(name.begin(), name.end(), ' ', '_');
      return name;
    });

// No value moves by more than half a step, and the largest of a row reaches 127 of them.
TEST(QuantiseRows, MovesNoValueByMoreThanHalfAStep) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    Tensor x(dtype, 2, 3, 50, 24, /*bshd=*/true, /*pad=*/3);
    x.fill(9);
    x.fill_row(0, 0, 0, 0);
    x.fill_row(0, 0, 1, dtype == DType::kF16 ? 0x1p-24 : 0x1p-126);  // the least of its type
    x.put(0, 0, 2, 5, std::numeric_limits<double>::quiet_NaN());
    x.put(0, 0, 3, 5, std::numeric_limits<double>::infinity());
    std::vector<int8_t> rows(size_t{2} * 3 * 50 * 24);
    TensorView view = contiguous_view(rows.data(), DType::kI8, 2, 3, 50, 24);
    const Tensor scales(DType::kF32, 2, 3, 50, 1);
    const Status status = quantise_rows(x.view(), view, scales.view());
    ASSERT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(scales.get(0, 0, 0, 0), 0);
    EXPECT_TRUE(std::isnan(scales.get(0, 0, 2, 0)) && std::isnan(scales.get(0, 0, 3, 0)));
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t h = 0; h < 3; ++h) {
        for (int64_t s = 0; s < 50; ++s) {
          const double scale = scales.get(b, h, s, 0);
          if (std::isnan(scale)) continue;
          int most = 0;
          for (int64_t d = 0; d < 24; ++d) {
            const int value = view.row<int8_t>(b, h, s)[d];
            most = std::max(most, std::abs(value));
            // The scale's rounding, of at least f32's smallest number, times 127 steps.
            const double digits = 127 * std::max(eps(DType::kF32) * scale, 0x1p-149);
            EXPECT_LE(std::fabs(value * scale - x.get(b, h, s, d)), scale / 2 + digits);
          }
          EXPECT_EQ(most, scale == 0 ? 0 : 127);
        }
      }
    }
  }
}

std::vector<std::string> unmet(const DecodeRun& run, const DecodeProblem& problem) {
  return unmet_conditions(problem, run.o.view(), run.lse.view());
}

TEST(DecodeConditions, NamesWhatIsWrong) {
  const DecodeCase contiguous{"", 4, 2, 2, 32, 32, 0, {10, 20}, Layout::kContiguous, 24};
  const DecodeRun run(contiguous, DType::kF32);
  const auto with = [&](auto change) {
    DecodeProblem p = run.problem();
    change(p);
    return unmet(run, p);
  };
  EXPECT_TRUE(unmet(run, run.problem()).empty());
  const int32_t too_long[] = {10, 25}, negative[] = {-1, 20};
  EXPECT_THAT(with([&](auto& p) { p.lengths = too_long; }),
              Contains(HasSubstr("up to the cache's 24, got 25 for sequence 1")));
  EXPECT_THAT(with([&](auto& p) { p.lengths = negative; }), Contains(HasSubstr("got -1")));
  EXPECT_THAT(with([](auto& p) { p.lengths = nullptr; }), Contains(HasSubstr("lengths [B]")));
  EXPECT_THAT(with([](auto& p) { p.window = -2; }), Contains(HasSubstr("window >= 0, got -2")));
  EXPECT_THAT(with([](auto& p) { p.cache.k.dtype = DType::kBF16; }),
              Contains(HasSubstr("k of f32, got bf16")));
  EXPECT_THAT(with([](auto& p) { p.cache.k.dtype = p.cache.v.dtype = DType::kI8; }),
              Contains(HasSubstr("v_scales as the rows = [2, 2, 24], got [0, 0, 0]")));
  EXPECT_THAT(with([](auto& p) { p.cache.k_scales = p.cache.k; }),
              Contains(HasSubstr("no k_scales but for i8 rows")));
  EXPECT_THAT(with([](auto& p) { p.cache.v.shape[2] = 23; }), Contains(HasSubstr("v like k")));
  EXPECT_THAT(with([](auto& p) { p.cache.k.shape[1] = p.cache.v.shape[1] = 3; }),
              Contains(HasSubstr("multiple of key heads, got 4 and 3")));
  // The second sequence has 20 positions behind a ring of 10, and needs all of them.
  EXPECT_THAT(with([](auto& p) {
                p.cache.ring = true;
                p.cache.k.shape[2] = p.cache.v.shape[2] = 19;
              }),
              Contains(HasSubstr("a ring of at least window + Sq - 1 = 20")));
  const int32_t pages[] = {0, 1, 2, 0};
  EXPECT_THAT(with([&](auto& p) {
                p.cache.block_table = pages;
                p.cache.blocks = 2;
                p.cache.k.shape[2] = p.cache.v.shape[2] = 12;
              }),
              Contains(HasSubstr("pages below 2 in block_table, got 2 for sequence 1")));
}

}  // namespace
}  // namespace fovea::testing
