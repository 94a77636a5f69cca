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
class Scratch {
 public:
  explicit Scratch(size_t bytes) {
    thread_local AlignedBuffer<char> buffer;
    if (buffer.size() < bytes) {
      buffer = {};  // free first: the two need not coexist
      buffer = AlignedBuffer<char>(bytes);
    }
    next_ = buffer.data();
  }
  /// Bytes that take() uses up for `count` elements: whole cache lines.
  template <typename T>
  static constexpr size_t bytes_of(size_t count) {
    return (count * sizeof(T) + 63) / 64 * 64;
  }
  template <typename T>
  T* take(size_t count) {
    char* piece = next_;
    next_ += bytes_of<T>(count);
    return reinterpret_cast<T*>(piece);
  }

 private:
  char* next_;
};

}  // namespace fovea
