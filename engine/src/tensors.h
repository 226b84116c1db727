// Named tensors in a file of the safetensors format: the length of a JSON header, the header, the numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "buffer.h"

namespace fte {

// A file that is read piece by piece, so that one which shrinks meanwhile is an error and not a crash.
class File {
 public:
  // Throws Fault where it is no regular file (a link is none) or cannot be opened.
  explicit File(const std::string& path);
  ~File();
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  std::uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  void read(std::uint64_t from, void* to, std::size_t count) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

// A file's SHA-256 in hexadecimal digits.
std::string sha256_of(const File& file);

struct Tensor {
  std::string type;  // "F32", "F16", "BF16", "I8"
  std::vector<std::int64_t> shape;
  std::uint64_t offset = 0;  // of its numbers in the file
  std::uint64_t bytes = 0;
};

class TensorFile {
 public:
  // Reads and checks the header. Throws Fault.
  explicit TensorFile(const std::string& path);

  const File& file() const { return file_; }
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }

  // A tensor, which has to have this shape. Throws Fault, naming it.
  const Tensor& find(const std::string& name, const std::vector<std::int64_t>& shape) const;

  // Its numbers as they stand.
  Buffer<std::uint8_t> bytes(const Tensor& tensor) const;

  // The numbers of an F32 tensor; with `multiple`, zeros up to a multiple of so many.
  Buffer<float> floats(const std::string& name, const std::vector<std::int64_t>& shape, int multiple = 1) const;

 private:
  File file_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace fte
