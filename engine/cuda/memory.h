// CUDA's memory, streams and errors, owned and checked.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "fault.h"

namespace fte {

inline void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  const Kind kind = error == cudaErrorMemoryAllocation ? Kind::memory : Kind::internal;
  throw Fault(kind, std::string(what) + " failed on the GPU: " + cudaGetErrorString(error));
}

// Copies without a stream may end after the call that began them, and a GpuStream does not wait for them.
inline cudaError_t finish_uploads() { return cudaStreamSynchronize(cudaStreamLegacy); }

// Numbers of one kind on the GPU, zeros at first.
template <class T>
class GpuBuffer {
 public:
  GpuBuffer() = default;
  explicit GpuBuffer(std::size_t size) : size_(size) {
    if (size == 0) return;
    check_cuda(cudaMalloc(reinterpret_cast<void**>(&data_), size * sizeof(T)), "an allocation");
    cudaError_t error = cudaMemset(data_, 0, size * sizeof(T));
    if (error == cudaSuccess) error = finish_uploads();
    if (error != cudaSuccess) cudaFree(data_);
    check_cuda(error, "clearing memory");
  }
  GpuBuffer(const T* values, std::size_t size) : GpuBuffer(size) {
    if (size == 0) return;
    check_cuda(cudaMemcpy(data_, values, size * sizeof(T), cudaMemcpyHostToDevice), "a copy");
    check_cuda(finish_uploads(), "a copy");
  }
  explicit GpuBuffer(const std::vector<T>& values) : GpuBuffer(values.data(), values.size()) {}
  GpuBuffer(GpuBuffer&& other) noexcept { swap(other); }
  GpuBuffer& operator=(GpuBuffer&& other) noexcept {
    swap(other);
    return *this;
  }
  GpuBuffer(const GpuBuffer&) = delete;
  GpuBuffer& operator=(const GpuBuffer&) = delete;
  ~GpuBuffer() { cudaFree(data_); }

  T* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  void swap(GpuBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

class GpuStream {
 public:
  GpuStream() { check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream"); }
  GpuStream(const GpuStream&) = delete;
  GpuStream& operator=(const GpuStream&) = delete;
  ~GpuStream() { cudaStreamDestroy(stream_); }

  operator cudaStream_t() const { return stream_; }
  void wait() const { check_cuda(cudaStreamSynchronize(stream_), "a kernel"); }

 private:
  cudaStream_t stream_ = nullptr;
};

}  // namespace fte
