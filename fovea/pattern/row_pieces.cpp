#include "fovea/pattern/row_pieces.h"

#include "fovea/pattern/leaf_patterns.h"

namespace fovea {
namespace {

using Pieces = std::vector<RowPiece>;

// Above this many pairs of pieces an intersection is made row by row, where merging sorted lists is
// linear: dilated windows and scattered tokens have a piece for each diagonal or key.
constexpr size_t kMaxPairs = 4096;

bool intersect(const RowPiece& p, const RowPiece& q, RowPiece& out) {
  out = {std::max(p.r0, q.r0), std::min(p.r1, q.r1), std::max(p.lo, q.lo),
         std::min(p.hi, q.hi), std::max(p.a, q.a),   std::min(p.b, q.b)};
  return out.tighten();
}

Pieces leaf_pieces(const PatternNode& node, const PatternDomain& d, int64_t r0, int64_t r1) {
  PieceSink sink(d, r0, r1);
  node.leaf->pieces(node.numbers, sink);
  return sink.take();
}

// Pieces of rows [r0, r1); false when an intersection has too many pairs of them.
bool evaluate(const PatternNode& node, const PatternDomain& d, int64_t r0, int64_t r1,
              Pieces& out) {
  using Kind = PatternNode::Kind;
  if (node.kind == Kind::kPerHead) return evaluate(child_of_head(node, d.head), d, r0, r1, out);
  if (node.kind == Kind::kLeaf) {
    out = leaf_pieces(node, d, r0, r1);
    return true;
  }
  if (!evaluate(*node.children[0], d, r0, r1, out)) return false;
  Pieces other, common;
  for (size_t i = 1; i < node.children.size(); ++i) {
    if (!evaluate(*node.children[i], d, r0, r1, other)) return false;
    if (node.kind == Kind::kUnion) {
      out.insert(out.end(), other.begin(), other.end());
      continue;
    }
    if (out.size() * other.size() > kMaxPairs) return false;
    common.clear();
    RowPiece both;
    for (const RowPiece& p : out) {
      for (const RowPiece& q : other) {
        if (intersect(p, q, both)) common.push_back(both);
      }
    }
    out.swap(common);
  }
  return true;
}

bool begins_before(const RowPiece& x, const RowPiece& y) { return x.lo < y.lo; }

// Joins overlapping and touching ranges of one row; ascending in, ascending and disjoint out.
void join(Pieces& pieces) {
  size_t size = 0;
  for (const RowPiece& p : pieces) {
    if (size > 0 && p.lo <= pieces[size - 1].hi) {
      pieces[size - 1].hi = std::max(pieces[size - 1].hi, p.hi);
    } else {
      pieces[size++] = p;
    }
  }
  pieces.resize(size);
}

// The same for one row: disjoint ascending key ranges, as pieces without slope.
Pieces evaluate_row(const PatternNode& node, const PatternDomain& d, int64_t r) {
  using Kind = PatternNode::Kind;
  if (node.kind == Kind::kPerHead) return evaluate_row(child_of_head(node, d.head), d, r);
  if (node.kind == Kind::kLeaf) {
    Pieces out = leaf_pieces(node, d, r, r + 1);
    for (RowPiece& p : out) p = {r, r + 1, p.lower(r), p.upper(r), -kNoBound, kNoBound};
    std::sort(out.begin(), out.end(), begins_before);
    join(out);
    return out;
  }
  Pieces out = evaluate_row(*node.children[0], d, r), common;
  for (size_t i = 1; i < node.children.size(); ++i) {
    const Pieces other = evaluate_row(*node.children[i], d, r);
    if (node.kind == Kind::kUnion) {
      const auto middle = out.insert(out.end(), other.begin(), other.end());
      std::inplace_merge(out.begin(), middle, out.end(), begins_before);
      join(out);
      continue;
    }
    common.clear();
    RowPiece both;
    for (size_t x = 0, y = 0; x < out.size() && y < other.size();) {
      if (intersect(out[x], other[y], both)) common.push_back(both);
      out[x].hi < other[y].hi ? ++x : ++y;
    }
    out.swap(common);
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
