// Named tensors in a file of the safetensors format: the length of a JSON header, the header, the numbers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "buffer.h"
#include "fault.h"

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

// The largest magnitude of a weight. That of a trained voice is below 100 (that of int8's scales below 1), and what is
// folded of two of them below 10,000; beyond a million a checkpoint is damaged, and its products overflow.
constexpr float kMostWeight = 1e6F;

// Whatever is read has been checked: numbers are finite and at most kMostWeight, int8 lies between -127 and 127.
class TensorFile {
 public:
  // Reads and checks the header: tensors lie one after the other, aligned, without gaps. Throws Fault.
  explicit TensorFile(const std::string& path);

  const File& file() const { return file_; }
  bool has(const std::string& name) const { return tensors_.count(name) != 0; }

  // A tensor's numbers as they stand; it has to have this type and shape. Throws Fault, naming it, as all here.
  Buffer<std::uint8_t> bytes(const std::string& name, const std::string& type, const std::vector<std::int64_t>& shape);

  // Which of the types a tensor has, of "F32" and another one that may stand in its place.
  std::string type_of(const std::string& name, const std::string& other) const;

  // The numbers of an F32 tensor; with `multiple`, zeros up to a multiple of so many.
  Buffer<float> floats(const std::string& name, const std::vector<std::int64_t>& shape, int multiple = 1);

  // The scales of an int8 matrix, all above 0.
  Buffer<float> scales(const std::string& name, int rows);

  // Throws where a tensor was not read: then the file is not that of a voice of these sizes.
  void check_all_read() const;

 private:
  Fault wrong(const std::string& name, const std::string& what) const;
  const Tensor& find(const std::string& name) const;
  const Tensor& take(const std::string& name, const std::string& type, const std::vector<std::int64_t>& shape);
  void read(const std::string& name, const Tensor& tensor, void* to) const;
  void check_layout(std::uint64_t data) const;

  File file_;
  std::map<std::string, Tensor> tensors_;
  std::set<std::string> read_;
};

}  // namespace fte
