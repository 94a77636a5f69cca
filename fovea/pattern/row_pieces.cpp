#include "fovea/pattern/row_pieces.h"

#include "fovea/pattern/pattern_node.h"

namespace fovea {
namespace {

using Pieces = std::vector<RowPiece>;

constexpr int64_t kInf = int64_t{1} << 40;  // beyond every position, and sums of it do not overflow

// Above this many pairs of pieces an operator is evaluated row by row, where merging sorted lists
// is linear: dilated windows and scattered tokens have one piece for each diagonal or key.
constexpr size_t kMaxPairs = 4096;

// Pieces of a leaf for rows [r0, r1) of one domain.
class LeafPieces {
 public:
  LeafPieces(const PatternDomain& d, int64_t r0, int64_t r1) : d_(d), r0_(r0), r1_(r1) {}

  Pieces of(const PatternNode& node) {
    const std::vector<int64_t>& n = node.numbers;
    switch (node.kind) {
      case PatternKind::kCausal:
        band(-kInf, d_.shift + 1);
        break;
      case PatternKind::kWindow:
        band(d_.shift - n[0], d_.shift + n[1] + 1);
        break;
      case PatternKind::kDilated:
        dilated(n[0], n[1], n[2]);
        break;
      case PatternKind::kChunked:
        block_neighbours(n[0], 0, 0);
        break;
      case PatternKind::kBlockNeighbours:
        block_neighbours(n[0], n[1], n[2]);
        break;
      case PatternKind::kNeighbourhood:
        neighbourhood(n[0]);
        break;
      case PatternKind::kGlobal:
        global_runs({{0, n[0]}});
        break;
      case PatternKind::kGlobalTokens:
        global_runs(runs_of_tokens(n));
        break;
      case PatternKind::kRandomBlocks:
        random_blocks(n[0], n[1], n[2]);
        break;
      case PatternKind::kBlockMask:
        block_mask(n[0]);
        break;
      case PatternKind::kIntervals:
        intervals();
        break;
      case PatternKind::kKeyLengths:
        add(r0_, r1_, 0, d_.key_length);
        break;
      default:  // full; segments bound the domain itself
        add(r0_, r1_, 0, d_.k_len);
        break;
    }
    return std::move(out_);
  }

 private:
  struct Run {
    int64_t begin, end;
  };

  void add(int64_t r0, int64_t r1, int64_t lo, int64_t hi, int64_t a = -kInf, int64_t b = kInf) {
    RowPiece p{std::max(r0, r0_),
               std::min(r1, r1_),
               std::max<int64_t>(lo, 0),
               std::min(hi, d_.k_len),
               a,
               b};
    if (p.tighten()) out_.push_back(p);
  }
  void band(int64_t a, int64_t b) { add(r0_, r1_, 0, d_.k_len, a, b); }

  // One diagonal for each multiple of the step that meets these rows and any key.
  void dilated(int64_t left, int64_t right, int64_t step) {
    const int64_t first = std::max(-left, -(d_.shift + r1_ - 1));
    const int64_t last = std::min(right, d_.k_len - 1 - d_.shift - r0_);
    for (int64_t m = -floor_div(-first, step); m * step <= last; ++m) {
      band(d_.shift + m * step, d_.shift + m * step + 1);
    }
  }

  void block_neighbours(int64_t size, int64_t before, int64_t after) {
    const int64_t last = floor_div(r1_ - 1 + d_.shift, size);
    for (int64_t block = floor_div(r0_ + d_.shift, size); block <= last; ++block) {
      add(block * size - d_.shift, (block + 1) * size - d_.shift, (block - before) * size,
          (block + after + 1) * size);
    }
  }

  void neighbourhood(int64_t size) {
    const int64_t last = d_.k_len - size;  // begin of the last window
    if (last <= 0) return add(r0_, r1_, 0, d_.k_len);
    const int64_t a = d_.shift - size / 2;
    add(r0_, -a, 0, size);
    add(-a, last - a, 0, d_.k_len, a, a + size);
    add(last - a, r1_, last, d_.k_len);
  }

  std::vector<Run> runs_of_tokens(const std::vector<int64_t>& numbers) const {
    std::vector<int64_t> sorted = numbers;
    if (sorted.empty()) {
      const auto& tokens = d_.inputs->global_tokens;
      sorted.assign(tokens.begin(), tokens.end());
      std::sort(sorted.begin(), sorted.end());
    }
    std::vector<Run> runs;
    for (int64_t position : sorted) {
      if (!runs.empty() && position <= runs.back().end) {
        runs.back().end = std::max(runs.back().end, position + 1);
      } else {
        runs.push_back({position, position + 1});
      }
    }
    return runs;
  }

  // Rows of the runs see every key; the rows between them see the runs.
  void global_runs(const std::vector<Run>& runs) {
    int64_t row = r0_;
    auto ordinary_rows_until = [&](int64_t end) {
      if (row < std::min(end, r1_)) {
        for (const Run& run : runs) add(row, end, run.begin, run.end);
      }
    };
    for (const Run& run : runs) {
      ordinary_rows_until(run.begin - d_.shift);
      add(run.begin - d_.shift, run.end - d_.shift, 0, d_.k_len);
      row = std::max(row, run.end - d_.shift);
    }
    ordinary_rows_until(r1_);
  }

  void random_blocks(int64_t size, int64_t count, int64_t seed) {
    const int64_t blocks = (d_.k_len + size - 1) / size;
    const int64_t last = floor_div(r1_ - 1 + d_.shift, size);
    for (int64_t block = floor_div(r0_ + d_.shift, size); block <= last; ++block) {
      const std::vector<int64_t> keys = random_key_blocks(block, blocks, count, seed);
      for (size_t i = 0, j; i < keys.size(); i = j) {
        for (j = i + 1; j < keys.size() && keys[j] == keys[j - 1] + 1;) ++j;
        add(block * size - d_.shift, (block + 1) * size - d_.shift, keys[i] * size,
            (keys[j - 1] + 1) * size);
      }
    }
  }

  void block_mask(int64_t size) {
    const int64_t columns = d_.inputs->block_mask_columns;
    for (int64_t block = r0_ / size; block * size < r1_; ++block) {
      const uint8_t* row = d_.inputs->block_mask.data() + block * columns;
      for (int64_t i = 0; i < columns; ++i) {
        if (!row[i]) continue;
        const int64_t begin = i;
        while (i < columns && row[i]) ++i;
        add(block * size, (block + 1) * size, begin * size, i * size);
      }
    }
  }

  void intervals() {
    const int32_t* ranges = d_.inputs->intervals.data() + 2 * d_.q_begin;
    for (int64_t r = r0_, end; r < r1_; r = end) {
      for (end = r + 1;
           end < r1_ && std::equal(ranges + 2 * r, ranges + 2 * r + 2, ranges + 2 * end);) {
        ++end;
      }
      add(r, end, ranges[2 * r], ranges[2 * r + 1]);
    }
  }

  const PatternDomain& d_;
  int64_t r0_, r1_;
  Pieces out_;
};

bool intersect(const RowPiece& p, const RowPiece& q, RowPiece& out) {
  out = {std::max(p.r0, q.r0), std::min(p.r1, q.r1), std::max(p.lo, q.lo),
         std::min(p.hi, q.hi), std::max(p.a, q.a),   std::min(p.b, q.b)};
  return out.tighten();
}

// Appends p without q. The keys outside [L, H), L = max(q.lo, r + q.a), H = min(q.hi, r + q.b), are
// j < q.lo; q.lo <= j < r + q.a; L <= j with q.hi <= j; L <= j < q.hi with r + q.b <= j.
void subtract(const RowPiece& p, const RowPiece& q, Pieces& out) {
  RowPiece common;
  if (!intersect(p, q, common)) {
    out.push_back(p);
    return;
  }
  auto add = [&](RowPiece rest) {
    if (rest.tighten()) out.push_back(rest);
  };
  RowPiece rest = p;
  rest.r1 = std::min(p.r1, q.r0);
  add(rest);
  rest = p;
  rest.r0 = std::max(p.r0, q.r1);
  add(rest);
  RowPiece rows = p;
  rows.r0 = std::max(p.r0, q.r0);
  rows.r1 = std::min(p.r1, q.r1);
  add({rows.r0, rows.r1, rows.lo, std::min(rows.hi, q.lo), rows.a, rows.b});
  add({rows.r0, rows.r1, std::max(rows.lo, q.lo), rows.hi, rows.a, std::min(rows.b, q.a)});
  add({rows.r0, rows.r1, std::max(rows.lo, q.hi), rows.hi, std::max(rows.a, q.a), rows.b});
  add({rows.r0, rows.r1, std::max(rows.lo, q.lo), std::min(rows.hi, q.hi), std::max(rows.a, q.b),
       rows.b});
}

Pieces intersection(const Pieces& x, const Pieces& y) {
  Pieces out;
  RowPiece common;
  for (const RowPiece& p : x) {
    for (const RowPiece& q : y) {
      if (intersect(p, q, common)) out.push_back(common);
    }
  }
  return out;
}

Pieces union_of(Pieces x, const Pieces& y) {
  Pieces rest = y, next;
  for (const RowPiece& q : x) {
    next.clear();
    for (const RowPiece& p : rest) subtract(p, q, next);
    rest.swap(next);
  }
  x.insert(x.end(), rest.begin(), rest.end());
  return x;
}

const PatternNode& child_of_head(const PatternNode& node, const PatternDomain& d) {
  return *node.children[d.head % std::ssize(node.children)];
}

// Pieces of rows [r0, r1); false when there would be too many pairs of them.
bool evaluate(const PatternNode& node, const PatternDomain& d, int64_t r0, int64_t r1,
              Pieces& out) {
  if (node.kind == PatternKind::kPerHead) return evaluate(child_of_head(node, d), d, r0, r1, out);
  if (node.children.empty()) {
    out = LeafPieces(d, r0, r1).of(node);
    return true;
  }
  if (!evaluate(*node.children[0], d, r0, r1, out)) return false;
  Pieces other;
  for (size_t i = 1; i < node.children.size(); ++i) {
    if (!evaluate(*node.children[i], d, r0, r1, other)) return false;
    if (out.size() * other.size() > kMaxPairs) return false;
    out = node.kind == PatternKind::kUnion ? union_of(std::move(out), other)
                                           : intersection(out, other);
  }
  return true;
}

// The same for one row: disjoint ascending key ranges, as pieces without slope.
Pieces evaluate_row(const PatternNode& node, const PatternDomain& d, int64_t r) {
  if (node.kind == PatternKind::kPerHead) return evaluate_row(child_of_head(node, d), d, r);
  if (node.children.empty()) {
    Pieces out = LeafPieces(d, r, r + 1).of(node);
    for (RowPiece& p : out) p = {r, r + 1, p.lower(r), p.upper(r), -kInf, kInf};
    std::sort(out.begin(), out.end(),
              [](const RowPiece& x, const RowPiece& y) { return x.lo < y.lo; });
    return out;
  }
  Pieces out = evaluate_row(*node.children[0], d, r), merged;
  for (size_t i = 1; i < node.children.size(); ++i) {
    const Pieces other = evaluate_row(*node.children[i], d, r);
    merged.clear();
    if (node.kind == PatternKind::kIntersection) {
      for (size_t x = 0, y = 0; x < out.size() && y < other.size();) {
        RowPiece common;
        if (intersect(out[x], other[y], common)) merged.push_back(common);
        out[x].hi < other[y].hi ? ++x : ++y;
      }
    } else {
      const size_t middle = out.size();
      out.insert(out.end(), other.begin(), other.end());
      std::inplace_merge(out.begin(), out.begin() + middle, out.end(),
                         [](const RowPiece& x, const RowPiece& y) { return x.lo < y.lo; });
      for (const RowPiece& p : out) {
        if (!merged.empty() && p.lo <= merged.back().hi) {
          merged.back().hi = std::max(merged.back().hi, p.hi);
        } else {
          merged.push_back(p);
        }
      }
    }
    out.swap(merged);
  }
  return out;
}

// Appends the pieces of rows [r0, r1) of a domain, in positions of the packed tensors.
void append_domain(const PatternNode& node, const PatternDomain& d, int64_t r0, int64_t r1,
                   Pieces& out) {
  if (r0 >= r1 || d.k_len == 0) return;
  Pieces pieces;
  if (!evaluate(node, d, r0, r1, pieces)) {
    pieces.clear();
    for (int64_t r = r0; r < r1; ++r) {
      const Pieces row = evaluate_row(node, d, r);
      pieces.insert(pieces.end(), row.begin(), row.end());
    }
  }
  for (const RowPiece& p : pieces) {
    out.push_back({p.r0 + d.q_begin, p.r1 + d.q_begin, p.lo + d.k_begin, p.hi + d.k_begin,
                   p.a + d.k_begin - d.q_begin, p.b + d.k_begin - d.q_begin});
  }
}

}  // namespace

bool RowPiece::tighten() {
  if (hi <= lo || b <= a) return false;
  r0 = std::max(r0, lo - b + 1);
  r1 = std::min(r1, hi - a);
  return r0 < r1;
}

std::vector<RowPiece> row_pieces(const Pattern& pattern, const PatternScope& scope, int64_t q0,
                                 int64_t q1) {
  Pieces out;
  if (!pattern.uses_segments()) {
    append_domain(pattern.node(), whole_domain(scope), q0, q1, out);
    return out;
  }
  const auto& cu = scope.inputs->cu_seqlens_q;
  for (int64_t s = segment_of(cu, q0); s + 1 < std::ssize(cu) && cu[s] < q1; ++s) {
    const PatternDomain d = segment_domain(scope, s);
    append_domain(pattern.node(), d, std::max(q0 - d.q_begin, int64_t{0}),
                  std::min(q1 - d.q_begin, d.q_len), out);
  }
  return out;
}

}  // namespace fovea
