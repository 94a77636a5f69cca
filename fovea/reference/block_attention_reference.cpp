#include "fovea/reference/block_attention_reference.h"

#include <algorithm>
#include <cmath>
#include <functional>

namespace fovea::reference {
namespace {

using Row = std::vector<double>;

/// Means of rows [begin, end) of one head of x [H, T, D].
Row mean(const BlockProblem& p, const std::vector<double>& x, int64_t head, int64_t begin,
         int64_t end) {
  Row row(static_cast<size_t>(p.head_dim), 0.0);
  for (int64_t t = begin; t < end; ++t) {
    for (int64_t c = 0; c < p.head_dim; ++c) {
      row[static_cast<size_t>(c)] +=
          x[static_cast<size_t>((head * p.tokens + t) * p.head_dim + c)] /
          static_cast<double>(end - begin);
    }
  }
  return row;
}

Row row_of(const BlockProblem& p, const std::vector<double>& x, int64_t head, int64_t t) {
  return mean(p, x, head, t, t + 1);
}

double score(const Row& q, const Row& k) {
  double sum = 0;
  for (size_t c = 0; c < q.size(); ++c) sum += q[c] * k[c];
  return sum / std::sqrt(static_cast<double>(q.size()));
}

/// softmax(scores) values; zeros where there are none.
Row weighted(const Row& scores, const std::vector<Row>& values, size_t dim) {
  Row o(dim, 0.0);
  if (scores.empty()) return o;
  const double highest = *std::max_element(scores.begin(), scores.end());
  double total = 0;
  for (const double s : scores) total += std::exp(s - highest);
  for (size_t j = 0; j < scores.size(); ++j) {
    for (size_t c = 0; c < dim; ++c) o[c] += std::exp(scores[j] - highest) / total * values[j][c];
  }
  return o;
}

/// Softmax attention of one query over the tokens that `sees` allows.
Row attend(const BlockProblem& p, int64_t head, int64_t t,
           const std::function<bool(int64_t)>& sees) {
  const int64_t kv_head = head / (p.heads / p.kv_heads);
  const Row q = row_of(p, p.q, head, t);
  Row scores;
  std::vector<Row> values;
  for (int64_t j = 0; j < p.tokens; ++j) {
    if (!sees(j)) continue;
    scores.push_back(score(q, row_of(p, p.k, kv_head, j)));
    values.push_back(row_of(p, p.v, kv_head, j));
  }
  return weighted(scores, values, static_cast<size_t>(p.head_dim));
}

/// Scores of a query with the mean keys of blocks that `sees` allows, and their mean values.
struct Means {
  Row scores;
  std::vector<int64_t> blocks;
  std::vector<Row> values;
};

Means means_for(const BlockProblem& p, int64_t head, const Row& q, int64_t size,
                const std::function<bool(int64_t)>& sees) {
  const int64_t kv_head = head / (p.heads / p.kv_heads);
  Means m;
  for (int64_t b = 0; b * size < p.tokens; ++b) {
    if (!sees(b)) continue;
    const int64_t end = std::min((b + 1) * size, p.tokens);
    m.scores.push_back(score(q, mean(p, p.k, kv_head, b * size, end)));
    m.values.push_back(mean(p, p.v, kv_head, b * size, end));
    m.blocks.push_back(b);
  }
  return m;
}

/// The `count` blocks of the highest ranks, equal ones by block; never those of rank -inf.
std::vector<int64_t> best(const Row& ranks, int64_t count) {
  std::vector<int64_t> order;
  for (size_t b = 0; b < ranks.size(); ++b) {
    if (std::isfinite(ranks[b])) order.push_back(static_cast<int64_t>(b));
  }
  std::stable_sort(order.begin(), order.end(), [&](int64_t x, int64_t y) {
    return ranks[static_cast<size_t>(x)] > ranks[static_cast<size_t>(y)];
  });
  order.resize(std::min(order.size(), static_cast<size_t>(count)));
  return order;
}

}  // namespace

std::vector<double> moba(const BlockProblem& p, int64_t block, int64_t blocks) {
  std::vector<double> o;
  for (int64_t h = 0; h < p.heads; ++h) {
    const int64_t kv_head = h / (p.heads / p.kv_heads);
    for (int64_t t = 0; t < p.tokens; ++t) {
      const int64_t own = t / block;
      Row ranks;
      for (int64_t b = 0; b * block < p.tokens; ++b) {
        const Row summary = mean(p, p.k, kv_head, b * block, std::min((b + 1) * block, p.tokens));
        const bool other = p.causal ? b < own : b != own;
        ranks.push_back(other ? score(row_of(p, p.q, h, t), summary) : -INFINITY);
      }
      const std::vector<int64_t> chosen = best(ranks, blocks - 1);
      const Row row = attend(p, h, t, [&](int64_t j) {
        if (p.causal && j > t) return false;
        return j / block == own ||
               std::find(chosen.begin(), chosen.end(), j / block) != chosen.end();
      });
      o.insert(o.end(), row.begin(), row.end());
    }
  }
  return o;
}

std::vector<double> hmatrix(const BlockProblem& p, int64_t block) {
  const auto pooled = [&](const std::vector<double>& x, int64_t head, int64_t i, int64_t l) {
    const int64_t begin = i >> l << l;
    return mean(p, x, head, begin, std::min(begin + (int64_t{1} << l), p.tokens));
  };
  std::vector<double> o;
  for (int64_t h = 0; h < p.heads; ++h) {
    const int64_t kv_head = h / (p.heads / p.kv_heads);
    for (int64_t i = 0; i < p.tokens; ++i) {
      Row scores;
      std::vector<Row> values;
      for (int64_t j = 0; j < (p.causal ? i + 1 : p.tokens); ++j) {
        int64_t l = 0;
        while (std::abs((i >> l) / block - (j >> l) / block) > 1) ++l;
        scores.push_back(score(pooled(p.q, h, i, p.causal ? 0 : l), pooled(p.k, kv_head, j, l)));
        values.push_back(row_of(p, p.v, kv_head, j));
      }
      const Row row = weighted(scores, values, static_cast<size_t>(p.head_dim));
      o.insert(o.end(), row.begin(), row.end());
    }
  }
  return o;
}

std::vector<double> nsa(const BlockProblem& p, const std::vector<double>& gates, int64_t block,
                        int64_t blocks, int64_t window) {
  const int64_t group = p.heads / p.kv_heads;
  std::vector<double> o;
  for (int64_t h = 0; h < p.heads; ++h) {
    for (int64_t t = 0; t < p.tokens; ++t) {
      const int64_t own = t / block, count = (p.tokens + block - 1) / block;
      const auto ended = [&](int64_t b) { return !p.causal || (b + 1) * block <= t + 1; };
      const auto means_of = [&](int64_t head) {
        return means_for(p, head, row_of(p, p.q, head, t), block, ended);
      };
      const Means own_means = means_of(h);
      const Row compressed =
          weighted(own_means.scores, own_means.values, static_cast<size_t>(p.head_dim));
      Row ranks(static_cast<size_t>(count), -INFINITY);  // weights of all heads of the group
      for (int64_t b = 0; b < count; ++b) {
        if (p.causal ? b < own : b != own) ranks[static_cast<size_t>(b)] = 0;
      }
      for (int64_t head = h / group * group; head < (h / group + 1) * group; ++head) {
        const Means m = means_of(head);
        double total = 0;
        for (const double s : m.scores) total += std::exp(s);
        for (size_t i = 0; i < m.blocks.size(); ++i) {
          ranks[static_cast<size_t>(m.blocks[i])] += std::exp(m.scores[i]) / total;
        }
      }
      for (int64_t b = 0; b < count; ++b) {
        double& rank = ranks[static_cast<size_t>(b)];
        if (std::abs(b - own) == 1) {
          rank += 2000;
        } else if (b == 0) {
          rank += 1000;
        }
      }
      const std::vector<int64_t> chosen = best(ranks, blocks - 1);
      const auto past = [&](int64_t j) { return !p.causal || j <= t; };
      const Row selected = attend(p, h, t, [&](int64_t j) {
        return past(j) && (j / block == own ||
                           std::find(chosen.begin(), chosen.end(), j / block) != chosen.end());
      });
      const Row near = attend(p, h, t, [&](int64_t j) {
        return past(j) && std::abs(t - j) <= (p.causal ? window - 1 : window / 2);
      });
      const double* g = gates.data() + (h * p.tokens + t) * 3;
      for (size_t c = 0; c < near.size(); ++c) {
        o.push_back(g[0] * compressed[c] + g[1] * selected[c] + g[2] * near[c]);
      }
    }
  }
  return o;
}

std::vector<double> segment_encoder(const BlockProblem& p, const std::vector<double>& gate,
                                    int64_t size) {
  std::vector<double> o;
  for (int64_t h = 0; h < p.heads; ++h) {
    for (int64_t t = 0; t < p.tokens; ++t) {
      const int64_t own = t / size;
      const Row inside =
          attend(p, h, t, [&](int64_t j) { return j / size == own && (!p.causal || j <= t); });
      const Row query = p.causal
                            ? row_of(p, p.q, h, t)
                            : mean(p, p.q, h, own * size, std::min((own + 1) * size, p.tokens));
      const Means m = means_for(p, h, query, size,
                                [&](int64_t b) { return !p.causal || (b + 1) * size <= t + 1; });
      const Row summary = weighted(m.scores, m.values, static_cast<size_t>(p.head_dim));
      for (size_t c = 0; c < summary.size(); ++c) {
        o.push_back(inside[c] + gate[static_cast<size_t>(h * p.tokens + t)] * summary[c]);
      }
    }
  }
  return o;
}

}  // namespace fovea::reference
