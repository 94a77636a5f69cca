#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

namespace fovea {

/// Uninitialised memory that starts on a cache line.
template <typename T>
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(size_t count)
      : data_(static_cast<T*>(::operator new(count * sizeof(T), kAlignment))), count_(count) {}
  T* data() const { return data_.get(); }
  size_t size() const { return count_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Delete {
    void operator()(T* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<T, Delete> data_;
  size_t count_ = 0;
};

/// Hands out pieces of the calling thread's scratch memory, each on a cache line. The memory grows
/// to the largest request of the thread and is kept until the thread ends, so small calls do not
/// pay for page faults. One user a thread at a time.
template <typename T>
class Scratch {
 public:
  explicit Scratch(size_t total) {
    thread_local AlignedBuffer<T> buffer;
    if (buffer.size() < total) {
      buffer = {};  // free first: the two need not coexist
      buffer = AlignedBuffer<T>(total);
    }
    next_ = buffer.data();
  }
  /// `count` elements, rounded up to whole cache lines.
  T* take(size_t count) {
    T* piece = next_;
    next_ += (count + 15) / 16 * 16;
    return piece;
  }

 private:
  T* next_;
};

}  // namespace fovea
