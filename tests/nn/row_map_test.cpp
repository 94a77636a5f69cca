#include "fovea/nn/row_map.h"

#include "tests/nn/nn_test_util.h"

#include "fovea/nn/merge_rows.h"
#include "fovea/ops/attention.h"

namespace fovea::nn {
namespace {

at::Tensor indices(const std::vector<int64_t>& values) { return torch::tensor(values); }

TEST(RowMapTest, TakesAndSumsAreEachOthersGradient) {
  torch::manual_seed(1);
  const at::Tensor index = indices({2, 0, -1, 2, 4, 2});
  const at::Tensor weight = torch::rand({6}, torch::kDouble);
  const RowMap map = make_row_map(index, 5, weight);
  const at::Tensor dense = torch::zeros({6, 5}, torch::kDouble);  // the map as a matrix
  for (int64_t i = 0; i < 6; ++i) {
    if (index[i].item<int64_t>() >= 0) dense[i][index[i].item<int64_t>()] = weight[i];
  }
  const at::Tensor x = torch::randn({5, 37}, torch::kDouble).requires_grad_();
  const at::Tensor y = torch::randn({6, 37}, torch::kDouble).requires_grad_();
  EXPECT_LT(distance(take_rows(x, map), torch::matmul(dense, x)), 1e-14);
  EXPECT_LT(distance(sum_rows(y, map), torch::matmul(dense.t(), y)), 1e-14);
  EXPECT_LT(distance(torch::autograd::grad({take_rows(x, map)}, {x}, {y})[0],
                     torch::matmul(dense.t(), y)),
            1e-14);
  EXPECT_LT(
      distance(torch::autograd::grad({sum_rows(y, map)}, {y}, {x})[0], torch::matmul(dense, x)),
      1e-14);
}

TEST(RowMapTest, RowsMayLieApart) {
  const RowMap map = make_row_map(indices({1, 0, 1}), 2);
  const at::Tensor all = torch::randn({3, 4, 5, 2});
  for (const at::Tensor& x : {all.narrow(1, 1, 2), all.narrow(2, 1, 3), all.select(3, 1)}) {
    EXPECT_TRUE(same_bits(sum_rows(x, map), sum_rows(x.contiguous(), map)));
    EXPECT_TRUE(same_bits(take_rows(x.narrow(0, 0, 2), map),
                          take_rows(x.narrow(0, 0, 2).contiguous(), map)));
  }
}

TEST(RowMapTest, SumsInFloat32AndRoundsOnce) {
  const RowMap map = make_row_map(indices({0, 0, 0}), 1);
  const at::Tensor y = torch::tensor({256.0, 1.0, 1.0}).to(torch::kBFloat16).view({3, 1});
  EXPECT_EQ(sum_rows(y, map).item<float>(), 258);  // one by one in bfloat16: 256
}

/// merge_rows against attention_merge of expanded parts, in double.
TEST(MergeRowsTest, IsAttentionMergeOfTheRowsThatTheMapsName) {
  torch::manual_seed(2);
  constexpr int64_t kTokens = 5, kHeads = 2, kSlots = 3;
  const auto random = [](at::IntArrayRef shape) {
    return torch::randn(shape, torch::kDouble).requires_grad_();
  };
  const at::Tensor o0 = random({kTokens, kHeads, 37}), l0 = random({kHeads, kTokens});
  const at::Tensor o1 = random({3, kHeads, 37}), l1 = random({kHeads, 3});  // shared by tokens
  const at::Tensor o2 = random({20, 1, 37}), l2 = random({1, 20});          // slots of heads
  const at::Tensor rows1 = indices({0, 0, 1, 1, -1});
  const at::Tensor rows2 = torch::full({kTokens * kHeads * kSlots}, -1, torch::kLong);
  for (int64_t i = 0; i < 18; ++i) rows2[i] = (7 * i + 3) % 20;  // 2 rows are nobody's
  std::vector<at::Tensor> o = {o0}, lse = {l0};
  const at::Tensor none = torch::full({kHeads, 1}, -INFINITY, torch::kDouble);
  const at::Tensor kept1 = torch::where(rows1 < 0, 3, rows1);
  o.push_back(torch::cat({o1, torch::zeros({1, kHeads, 37}, torch::kDouble)}).index({kept1}));
  lse.push_back(torch::cat({l1, none}, 1).index({torch::indexing::Slice(), kept1}));
  for (int64_t s = 0; s < kSlots; ++s) {
    const at::Tensor rows = rows2.view({kTokens, kHeads, kSlots}).select(2, s);
    const at::Tensor kept = torch::where(rows < 0, 20, rows);
    o.push_back(torch::cat({o2.squeeze(1), torch::zeros({1, 37}, torch::kDouble)}).index({kept}));
    lse.push_back(torch::cat({l2.squeeze(0), none[0]}).index({kept}).t());
  }
  const auto [expected_o, expected_lse] = ops::attention_merge(o, lse);
  const auto [merged_o, merged_lse] = merge_rows({{o0, l0, {}, 1},
                                                  {o1, l1, make_row_map(rows1, 3), 1},
                                                  {o2, l2, make_row_map(rows2, 20), kSlots}});
  EXPECT_LT(distance(merged_o, expected_o), 1e-14);
  EXPECT_LT(distance(merged_lse, expected_lse), 1e-14);
  const at::Tensor d_o = torch::randn_like(merged_o), d_lse = torch::randn_like(merged_lse);
  const std::vector<at::Tensor> inputs = {o0, l0, o1, l1, o2, l2};
  expect_same_gradients(torch::autograd::grad({merged_o, merged_lse}, inputs, {d_o, d_lse}),
                        torch::autograd::grad({expected_o, expected_lse}, inputs, {d_o, d_lse}),
                        1e-13);
}

TEST(MergeRowsTest, RowsThatSeeNothingStayZero) {
  const at::Tensor o = torch::zeros({2, 1, 8}).requires_grad_();
  const at::Tensor lse = torch::full({1, 2}, -INFINITY).requires_grad_();
  const auto [merged, total] =
      merge_rows({{o, lse, {}, 1}, {o, lse, make_row_map(indices({-1, 0}), 2), 1}});
  EXPECT_TRUE(same_bits(merged, torch::zeros({2, 1, 8})));
  EXPECT_TRUE(same_bits(total, torch::full({1, 2}, -INFINITY)));
  const auto gradients = torch::autograd::grad({merged.sum()}, {o, lse});
  for (const at::Tensor& g : gradients) EXPECT_TRUE(same_bits(g, torch::zeros_like(g)));
}

}  // namespace
}  // namespace fovea::nn
