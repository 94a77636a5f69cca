#include <list>
#include <mutex>
#include <unordered_map>

#include "fovea/core/status.h"
#include "fovea/pattern/block_plan.h"
#include "fovea/pattern/pattern_node.h"

namespace fovea {
namespace {

using PlanPtr = std::shared_ptr<const BlockPlan>;

// The least recently used plans leave when there are too many or they hold too much memory.
class PlanCache {
 public:
  PlanPtr find(const std::string& key) {
    const std::lock_guard lock(mutex_);
    const auto it = index_.find(key);
    if (it == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, it->second);
    return it->second->plan;
  }

  void insert(const std::string& key, const PlanPtr& plan) {
    const std::lock_guard lock(mutex_);
    if (index_.contains(key)) return;  // another thread was first
    entries_.push_front({key, plan});
    index_[key] = entries_.begin();
    bytes_ += bytes_of(entries_.front());
    while (entries_.size() > 1 && (entries_.size() > kMaxPlans || bytes_ > kMaxBytes)) {
      bytes_ -= bytes_of(entries_.back());
      index_.erase(entries_.back().key);
      entries_.pop_back();
    }
  }

 private:
  struct Entry {
    std::string key;
    PlanPtr plan;
  };
  static constexpr size_t kMaxPlans = 64;
  static constexpr int64_t kMaxBytes = int64_t{256} << 20;
  static int64_t bytes_of(const Entry& e) {
    return e.plan->bytes() + 2 * static_cast<int64_t>(e.key.size());
  }

  std::mutex mutex_;
  std::list<Entry> entries_;
  std::unordered_map<std::string, std::list<Entry>::iterator> index_;
  int64_t bytes_ = 0;
};

PlanCache& plan_cache() {
  static PlanCache cache;
  return cache;
}

template <typename T>
void append_bytes(std::string& key, std::span<const T> values) {
  const int64_t size = std::ssize(values);
  key.append(reinterpret_cast<const char*>(&size), sizeof(size));
  if (size > 0) key.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

// Everything that the plan of one batch element and head depends on.
std::string plan_key(const Pattern& pattern, const std::string& head_text,
                     const PatternScope& scope) {
  std::string key = head_text;
  const int64_t lengths[] = {scope.q_len, scope.kv_len, static_cast<int64_t>(scope.alignment)};
  append_bytes<int64_t>(key, lengths);
  if (!pattern.uses_inputs()) return key;
  const PatternInputs& in = *scope.inputs;
  const bool packed = pattern.uses_segments();
  if (packed) {
    append_bytes(key, in.cu_seqlens_q);
    append_bytes(key, in.cu_seqlens_k);
  }
  if (pattern.uses_key_lengths()) {
    append_bytes(key, packed ? in.key_lengths : in.key_lengths.subspan(scope.batch, 1));
  }
  append_bytes(key, in.intervals);
  append_bytes(key, in.global_tokens);
  append_bytes(key, in.block_mask);  // the number of columns follows from the lengths
  return key;
}

}  // namespace

PlanSet PlanSet::build(const Pattern& pattern, int64_t batch, int64_t heads, int64_t q_len,
                       int64_t kv_len, Alignment alignment, const PatternInputs& inputs) {
  PatternScope scope{q_len, kv_len, alignment, 0, 0, &inputs};
  throw_if_unmet(pattern, pattern.unmet(scope, batch, heads));
  const bool by_batch = pattern.uses_key_lengths() && !pattern.uses_segments();
  const int64_t planned_heads = pattern.per_head() ? heads : 1;
  const int64_t planned_batch = by_batch ? batch : 1;

  PlanSet set;
  if (batch == 0 || heads == 0) return set;
  set.head_stride_ = pattern.per_head() ? 1 : 0;
  set.batch_stride_ = by_batch ? planned_heads : 0;
  set.plans_.reserve(planned_batch * planned_heads);
  std::unordered_map<std::string, PlanPtr> own;  // shares also what the cache has dropped
  std::vector<std::string> head_texts;
  for (int64_t h = 0; h < planned_heads; ++h) {
    head_texts.push_back(pattern.for_head(h).to_string());
  }
  for (scope.batch = 0; scope.batch < planned_batch; ++scope.batch) {
    for (scope.head = 0; scope.head < planned_heads; ++scope.head) {
      const std::string key = plan_key(pattern, head_texts[scope.head], scope);
      PlanPtr& plan = own[key];
      if (!plan) plan = plan_cache().find(key);
      if (!plan) {
        plan = build_plan(pattern, scope);
        plan_cache().insert(key, plan);
      }
      set.plans_.push_back(plan);
    }
  }
  return set;
}

int64_t PlanSet::pairs(int64_t batch, int64_t heads) const {
  int64_t pairs = 0;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) pairs += plan(b, h).counts().pairs;
  }
  return pairs;
}

}  // namespace fovea
