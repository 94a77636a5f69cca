// The recurrent layers against their papers' equations, written step by step in torch operations.
#include "fovea/nn/linear_mixer.h"

#include <cmath>

#include "tests/nn/nn_test_util.h"

#include "fovea/core/status.h"
#include "fovea/nn/feature_maps.h"

namespace fovea::nn {
namespace {

constexpr int64_t kDim = 32, kHeads = 2;
constexpr Mechanism kMixers[] = {
    Mechanism::kPerformer, Mechanism::kBased,  Mechanism::kHedgehog, Mechanism::kRetNet,
    Mechanism::kGla,       Mechanism::kMamba2, Mechanism::kDeltaNet, Mechanism::kGatedDeltaNet};

LinearMixer make(Mechanism mechanism, bool causal = true) {
  torch::manual_seed(5);
  LinearMixer mixer(
      LinearMixerOptions().mechanism(mechanism).model_dim(kDim).heads(kHeads).causal(causal));
  mixer->to(torch::kDouble);
  mixer->eval();
  return mixer;
}

/// Definitions, for one document, from the module's parameters by name.
class Definition {
 public:
  Definition(LinearMixer& mixer, const at::Tensor& x)
      : m_(mixer->options.mechanism()),
        causal_(mixer->options.causal()),
        p_(mixer->named_parameters()),
        x_(x),
        tokens_(x.size(0)) {}

  at::Tensor output() {
    const at::Tensor all = torch::matmul(x_, p_["input_weight"].t());
    using Sizes = std::vector<int64_t>;
    switch (m_) {
      case Mechanism::kPerformer:
      case Mechanism::kHedgehog: {
        const auto s = all.split_with_sizes(Sizes{kDim, kDim, kDim}, 1);
        const at::Tensor q = features(s[0], "query_map"), k = features(s[1], "key_map");
        return out(weighted(torch::einsum("ihd,jhd->hij", {q, k}), heads(s[2], 16)));
      }
      case Mechanism::kBased: {
        const auto s = all.split_with_sizes(Sizes{32, 32, kDim}, 1);
        return out(taylor(heads(s[0], 16), heads(s[1], 16), heads(s[2], 16)));
      }
      case Mechanism::kRetNet: {
        const auto s = all.split_with_sizes(Sizes{kDim, kDim, 2 * kDim, 2 * kDim}, 1);
        std::vector<double> rates;
        for (int h = 0; h < kHeads; ++h) rates.push_back(1 - std::pow(2, -5 - h));
        decay_ =
            torch::tensor(rates, torch::kDouble).view({1, kHeads, 1}).expand({tokens_, -1, 16});
        const at::Tensor o =
            states(rotated(heads(s[0], 16)), rotated(heads(s[1], 16)), heads(s[2], 32)) / 4;
        const at::Tensor centred = o - o.mean(-1, true);
        const at::Tensor norm = centred / (centred.square().mean(-1, true) + 1e-5).sqrt();
        return out(norm.reshape({tokens_, -1}) * torch::silu(s[3]));
      }
      case Mechanism::kGla: {
        const auto s = all.split_with_sizes(Sizes{kDim / 2, kDim / 2, kDim, kDim}, 1);
        const at::Tensor logits = torch::matmul(torch::matmul(x_, p_["decay_down_weight"].t()),
                                                p_["decay_up_weight"].t()) +
                                  p_["decay_bias"];
        decay_ = torch::sigmoid(logits).pow(1.0 / 16).view({tokens_, kHeads, 8});
        const at::Tensor o =
            states(heads(s[0], 8), heads(s[1], 8), heads(s[2], 16)) / std::sqrt(8.0);
        return out(rms(o).reshape({tokens_, -1}) * torch::silu(s[3]));
      }
      case Mechanism::kMamba2: {
        const auto s = all.split_with_sizes(Sizes{64, 64, 2 * kDim, 2 * kDim, kHeads}, 1);
        const at::Tensor mixed =
            torch::silu(convolved(torch::cat({s[0], s[1], s[2]}, 1)) + p_["convolution_bias"]);
        const auto c = mixed.split_with_sizes(Sizes{64, 64, 2 * kDim}, 1);
        const at::Tensor step = (1 + (s[4] + p_["step_bias"]).exp()).log();
        decay_ = (-step * p_["log_rate"].exp()).exp().unsqueeze(2).expand({-1, -1, 64});
        const auto shared = [&](const at::Tensor& t) {
          return t.view({tokens_, 1, 64}).expand({-1, kHeads, -1});
        };
        const at::Tensor v = heads(c[2], 32);
        const at::Tensor o =
            states(shared(c[0]), shared(c[1]), v * step.unsqueeze(2)) + p_["skip"].unsqueeze(1) * v;
        return out(rms(o.reshape({tokens_, -1}) * torch::silu(s[3])));
      }
      default: {
        const bool gated = m_ == Mechanism::kGatedDeltaNet;
        Sizes sizes = {kDim, kDim, kDim};
        if (gated) sizes.push_back(kDim);
        sizes.push_back(kHeads);
        if (gated) sizes.push_back(kHeads);
        const auto s = all.split_with_sizes(sizes, 1);
        const auto c = torch::silu(convolved(torch::cat({s[0], s[1], s[2]}, 1))).chunk(3, 1);
        beta_ = torch::sigmoid(s[gated ? 4 : 3]);
        if (gated) {
          const at::Tensor step = (1 + (s[5] + p_["step_bias"]).exp()).log();
          decay_ = (-step * p_["log_rate"].exp()).exp().unsqueeze(2).expand({-1, -1, 16});
        }
        const auto unit = [](const at::Tensor& t) {
          return t / (t.square().sum(-1, true) + 1e-6).sqrt();
        };
        const at::Tensor o =
            states(unit(heads(c[0], 16)), unit(heads(c[1], 16)), heads(c[2], 16)) / 4;
        const at::Tensor y = rms(o).reshape({tokens_, -1});
        return out(gated ? y * torch::silu(s[3]) : y);
      }
    }
  }

 private:
  at::Tensor heads(const at::Tensor& t, int64_t dim) const { return t.reshape({tokens_, -1, dim}); }
  at::Tensor out(const at::Tensor& y) { return torch::matmul(y, p_["output_weight"].t()); }
  at::Tensor rms(const at::Tensor& t) {
    return t / (t.square().mean(-1, true) + 1e-5).sqrt() * p_["norm_weight"];
  }

  at::Tensor convolved(const at::Tensor& t) {
    std::vector<at::Tensor> rows;
    for (int64_t i = 0; i < tokens_; ++i) {
      at::Tensor row = torch::zeros_like(t[0]);
      for (int64_t w = 0; w < 4 && w <= i; ++w) {
        row = row + t[i - w] * p_["convolution_weight"].select(1, 3 - w);
      }
      rows.push_back(row);
    }
    return torch::stack(rows);
  }

  static at::Tensor rotated(const at::Tensor& t) {
    const int64_t half = t.size(2) / 2;
    std::vector<at::Tensor> rows;
    for (int64_t i = 0; i < t.size(0); ++i) {
      const at::Tensor angle =
          static_cast<double>(i) *
          torch::pow(10000.0, -torch::arange(half, torch::kDouble) / static_cast<double>(half));
      const at::Tensor a = t[i].narrow(1, 0, half), b = t[i].narrow(1, half, half);
      rows.push_back(
          torch::cat({a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()}, 1));
    }
    return torch::stack(rows);
  }

  at::Tensor features(const at::Tensor& raw, const char* map) {
    const at::Tensor t = heads(raw, 16);
    if (m_ == Mechanism::kPerformer) {
      const at::Tensor scaled = t / 2;  // 16^(1/4)
      const at::Tensor exponent =
          torch::matmul(scaled, p_["random_directions"].t()) - scaled.square().sum(-1, true) / 2;
      if (map == std::string("query_map")) {  // which the module divides by its largest feature
        eps_ = 1e-6 * static_cast<double>(exponent.size(2)) *
               exponent.detach().amax(-1, true).exp().transpose(0, 1);
      }
      return exponent.exp();
    }
    const at::Tensor y = torch::einsum("hed,thd->the", {p_[map], t});
    return torch::cat({torch::softmax(y, -1), torch::softmax(-y, -1)}, -1);
  }

  at::Tensor weighted(at::Tensor a, const at::Tensor& v) {
    if (causal_) a = a.tril();
    const at::Tensor o = torch::matmul(a, v.transpose(0, 1)) / (a.sum(-1, true) + eps_);
    return o.transpose(0, 1).reshape({tokens_, -1});
  }
  at::Tensor taylor(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    const at::Tensor s = torch::einsum("ihd,jhd->hij", {q, k}) / 4;
    return weighted(1 + s + s.square() / 2, v);
  }

  /// [T, H, Dv]: the recurrence.
  at::Tensor states(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    at::Tensor state = torch::zeros({kHeads, k.size(2), v.size(2)}, torch::kDouble);
    std::vector<at::Tensor> rows;
    for (int64_t t = 0; t < tokens_; ++t) {
      if (decay_.defined()) state = state * decay_[t].unsqueeze(2);
      at::Tensor u = v[t];
      if (beta_.defined()) {
        u = (u - torch::einsum("hd,hdc->hc", {k[t], state})) * beta_[t].unsqueeze(1);
      }
      state = state + k[t].unsqueeze(2) * u.unsqueeze(1);
      rows.push_back(torch::einsum("hd,hdc->hc", {q[t], state}));
    }
    return torch::stack(rows);
  }

  Mechanism m_;
  bool causal_;
  torch::OrderedDict<std::string, at::Tensor> p_;
  at::Tensor x_;
  int64_t tokens_;
  at::Tensor decay_, beta_;
  at::Tensor eps_ = torch::tensor(1e-6, torch::kDouble);
};

TEST(LinearMixerTest, IsItsDefinitionInEachDocument) {
  const std::vector<int64_t> lengths = {1, 21, 6};
  for (const Mechanism mechanism : kMixers) {
    for (const bool causal : {true, false}) {
      if (!causal && !reads_both_sides(mechanism)) continue;
      SCOPED_TRACE(std::string(name_of(mechanism)) + (causal ? "(causal)" : ""));
      LinearMixer mixer = make(mechanism, causal);
      const at::Tensor x = torch::randn({28, kDim}, torch::kDouble).requires_grad_();
      const at::Tensor y = mixer(x, packing_of(lengths));
      std::vector<at::Tensor> documents;
      int64_t begin = 0;
      for (const int64_t length : lengths) {
        documents.push_back(Definition(mixer, x.narrow(0, begin, length)).output());
        begin += length;
      }
      const at::Tensor expected = torch::cat(documents);
      // The table of rotary angles is in float32.
      const double tolerance = mechanism == Mechanism::kRetNet ? 1e-6 : 1e-10;
      ASSERT_LT(distance(y, expected), tolerance);
      std::vector<at::Tensor> inputs = {x};
      for (const at::Tensor& p : mixer->parameters()) {
        if (p.requires_grad()) inputs.push_back(p);
      }
      const at::Tensor d_y = torch::randn_like(y);
      expect_same_gradients(torch::autograd::grad({y}, inputs, {d_y}),
                            torch::autograd::grad({expected}, inputs, {d_y}), 10 * tolerance);
    }
  }
}

TEST(LinearMixerTest, ChangesNothingBeforeAChange) {
  for (const Mechanism mechanism : kMixers) {
    LinearMixer mixer = make(mechanism);
    mixer->to(torch::kFloat);
    const at::Tensor x = torch::randn({40, kDim}), changed = x.clone();
    changed.narrow(0, 17, 23).normal_();
    const Packing packing = packing_of({40});
    EXPECT_TRUE(
        same_bits(mixer(x, packing).narrow(0, 0, 17), mixer(changed, packing).narrow(0, 0, 17)))
        << name_of(mechanism);
  }
}

TEST(LinearMixerTest, ParametersAreTheListedOnes) {
  for (const Mechanism mechanism : kMixers) {
    LinearMixer mixer = make(mechanism);
    std::vector<std::pair<std::string, std::vector<int64_t>>> found;
    for (const auto& p : mixer->named_parameters()) {
      found.emplace_back(p.key(), p.value().sizes().vec());
      EXPECT_TRUE(p.value().isfinite().all().item<bool>()) << p.key();
    }
    EXPECT_EQ(found, mixer_parameters(mechanism, kDim, kHeads)) << name_of(mechanism);
  }
}

TEST(FeatureMapsTest, RandomFeaturesApproachSoftmaxsWeights) {
  torch::manual_seed(3);
  const at::Tensor q = torch::randn({20, 16}, torch::kDouble) / 3;
  const at::Tensor k = torch::randn({20, 16}, torch::kDouble) / 3;
  const at::Tensor exact = (torch::matmul(q, k.t()) / 4).exp();
  at::Tensor sum = torch::zeros_like(exact);
  constexpr int kDraws = 200, kFeatures = 64;
  at::Tensor directions = torch::empty({kFeatures, 16}, torch::kDouble);
  for (int i = 0; i < kDraws; ++i) {
    draw_orthogonal_directions_(directions);
    sum += torch::matmul(random_positive_features(q, directions, false),
                         random_positive_features(k, directions, false).t());
  }
  // A feature's product is lognormal: relative to its mean, variance exp(|q' + k'|²) - 1, which
  // orthogonal directions lower.
  const at::Tensor together = (q.unsqueeze(1) + k.unsqueeze(0)).square().sum(-1) / 4;
  const at::Tensor deviation = (together.exp() - 1).sqrt() / std::sqrt(1.0 * kDraws * kFeatures);
  EXPECT_LT(((sum / kDraws / exact - 1).abs() / deviation).max().item<double>(), 6);
  const at::Tensor block = directions.narrow(0, 0, 16);
  const at::Tensor gram = torch::matmul(block, block.t());
  EXPECT_LT((gram - gram.diagonal().diag()).abs().max().item<double>(), 1e-12);
}

TEST(LinearMixerTest, RefusesWhatCannotBe) {
  const auto with = [](Mechanism mechanism, int64_t dim, bool causal) {
    return LinearMixerOptions().mechanism(mechanism).model_dim(dim).heads(2).causal(causal);
  };
  EXPECT_THROW(LinearMixer(with(Mechanism::kRetNet, 32, false)), InputError);
  EXPECT_THROW(LinearMixer(with(Mechanism::kGla, 16, true)), InputError);
  EXPECT_THROW(LinearMixer(with(Mechanism::kLinear, 32, true)), InputError);
}

}  // namespace
}  // namespace fovea::nn
