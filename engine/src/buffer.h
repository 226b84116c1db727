// Memory that begins on a cache line; much of it lies on huge pages where the system has them, as reading small ones
// would be a quarter slower.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "everywhere.h"

namespace fte {

// Numbers of one kind, zeros at first.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : size_(size) {
    if (size == 0) return;
    if (size > (static_cast<std::size_t>(-1) - kHugePage) / sizeof(T)) throw std::bad_alloc();
    const std::size_t page = size * sizeof(T) < kHugePage / 2 ? kLine : kHugePage,
                      bytes = (size * sizeof(T) + page - 1) / page * page;
    data_ = static_cast<T*>(std::aligned_alloc(page, bytes));
    if (!data_) throw std::bad_alloc();
#if defined(__linux__)
    if (page == kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    std::memset(static_cast<void*>(data_), 0, size * sizeof(T));
  }
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  FTE_EVERYWHERE T* data() { return data_; }
  FTE_EVERYWHERE const T* data() const { return data_; }
  FTE_EVERYWHERE std::size_t size() const { return size_; }
  FTE_EVERYWHERE bool empty() const { return size_ == 0; }
  FTE_EVERYWHERE T& operator[](std::size_t i) { return data_[i]; }
  FTE_EVERYWHERE const T& operator[](std::size_t i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }

 private:
  static constexpr std::size_t kLine = 64, kHugePage = std::size_t{1} << 21;

  void swap(Buffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

// A few things of one kind, made at once.
template <class T>
class List {
 public:
  List() = default;
  explicit List(int size) : things_(new T[static_cast<std::size_t>(size)]), first_(things_.get()), size_(size) {}

  FTE_EVERYWHERE T& operator[](int i) { return first_[i]; }
  FTE_EVERYWHERE const T& operator[](int i) const { return first_[i]; }
  int size() const { return size_; }
  T* begin() { return first_; }
  T* end() { return first_ + size_; }
  const T* begin() const { return first_; }
  const T* end() const { return first_ + size_; }

 private:
  std::unique_ptr<T[]> things_;
  T* first_ = nullptr;
  int size_ = 0;
};

}  // namespace fte
