#include "tensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "fault.h"
#include "json.h"
#include "range.h"

namespace fte {
namespace {

constexpr std::uint64_t kMostHeader = 16 << 20;  // bytes
constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 40;
constexpr std::size_t kMostName = 100;  // bytes of a tensor's name in an error

std::uint64_t size_of_type(const std::string& type) {
  if (type == "F32") return 4;
  if (type == "F16" || type == "BF16") return 2;
  if (type == "I8") return 1;
  return 0;
}

std::string shown_shape(const std::vector<std::int64_t>& shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

bool in_range(const std::string& type, const void* numbers, std::size_t bytes) {
  std::int32_t most = 0;
  std::memcpy(&most, &kMostWeight, sizeof most);
  if (type == "F32") return all_within<std::int32_t>(numbers, bytes / 4, most);
  if (type == "F16") return all_within<std::int16_t>(numbers, bytes / 2, 0x7bff);  // its largest number is 65504
  if (type == "BF16") return all_within<std::int16_t>(numbers, bytes / 2, static_cast<std::int16_t>(most >> 16));
  const auto* levels = static_cast<const std::uint8_t*>(numbers);
  std::uint8_t lowest = 0;  // a bool would not become vectors
  for (std::size_t i = 0; i < bytes; ++i) lowest = static_cast<std::uint8_t>(lowest | (levels[i] == 0x80 ? 1 : 0));
  return lowest == 0;
}

Tensor read_tensor(const Json& entry, const std::string& where, std::uint64_t data, std::uint64_t end) {
  Tensor tensor;
  tensor.type = entry.at("dtype").text();
  const std::uint64_t size = size_of_type(tensor.type);
  if (size == 0) throw bad_bundle(where + " has a type that is none of F32, F16, BF16 and I8");
  std::uint64_t bytes = size;
  for (const Json& each : entry.at("shape").list()) {
    tensor.shape.push_back(each.whole(0, std::int64_t{1} << 32));
    const auto length = static_cast<std::uint64_t>(tensor.shape.back());
    if (length != 0 && bytes > kMostBytes / length) throw bad_bundle(where + " is too large");
    bytes *= length;
  }
  const std::vector<Json>& offsets = entry.at("data_offsets").list();
  if (offsets.size() != 2) throw bad_bundle(where + " has no two data_offsets");
  const auto limit = static_cast<std::int64_t>(end - data);
  const auto first = static_cast<std::uint64_t>(offsets[0].whole(0, limit));
  const auto last = static_cast<std::uint64_t>(offsets[1].whole(0, limit));
  if (last < first || last - first != bytes) throw bad_bundle(where + " has data_offsets that do not fit its shape");
  tensor.offset = data + first;
  tensor.bytes = bytes;
  return tensor;
}

}  // namespace

File::File(const std::string& path) : path_(path) {
  descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor_ < 0) throw bad_bundle("cannot open " + path + ": " + std::strerror(errno));
  struct stat status{};
  if (fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(descriptor_);
    throw bad_bundle(path + " is not a regular file");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

File::~File() { close(descriptor_); }

void File::read(std::uint64_t from, void* to, std::size_t count) const {
  char* place = static_cast<char*>(to);
  while (count > 0) {
    const ssize_t got = pread(descriptor_, place, std::min<std::size_t>(count, 1 << 30), static_cast<off_t>(from));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0)
      throw bad_bundle("cannot read " + path_ + ": " + (got < 0 ? std::strerror(errno) : "it ends too early"));
    place += got;
    from += static_cast<std::uint64_t>(got);
    count -= static_cast<std::size_t>(got);
  }
}

TensorFile::TensorFile(const std::string& path) : file_(path) {
  std::uint8_t length[8];
  if (file_.size() < sizeof length) throw bad_bundle(path + " is too short for a file of tensors");
  file_.read(0, length, sizeof length);
  std::uint64_t header = 0;
  for (int i = 7; i >= 0; --i) header = header << 8 | length[i];
  if (header > kMostHeader || header > file_.size() - sizeof length) {
    throw bad_bundle(path + " is not a file of tensors: its header is longer than it may be");
  }
  std::string text(static_cast<std::size_t>(header), '\0');
  file_.read(sizeof length, text.data(), text.size());
  const Json json = Json::parse(text, path);
  for (const auto& [name, entry] : json.object()) {
    if (name == "__metadata__") continue;
    tensors_.emplace(name,
                     read_tensor(entry, path + ": " + shown(name, kMostName), sizeof length + header, file_.size()));
  }
  check_layout(sizeof length + header);
}

// Tensors follow each other without gaps or overlaps up to the file's end, as the format wants it, and each begins at a
// multiple of the size of its numbers: one that is moved by a byte reads numbers that nobody wrote.
void TensorFile::check_layout(std::uint64_t data) const {
  std::vector<const std::pair<const std::string, Tensor>*> order;
  for (const auto& each : tensors_) order.push_back(&each);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.offset, a->second.bytes) < std::pair(b->second.offset, b->second.bytes);
  });
  std::uint64_t end = data;
  for (const auto* each : order) {
    const auto& [name, tensor] = *each;
    if (tensor.offset != end) {
      throw wrong(name, "has data_offsets that leave a gap after the tensor before it, or overlap with it");
    }
    if (tensor.offset % size_of_type(tensor.type) != 0) throw wrong(name, "is not aligned to its numbers");
    end += tensor.bytes;
  }
  if (end != file_.size()) throw bad_bundle(file_.path() + " goes on after its last tensor: export the voice again");
}

Fault TensorFile::wrong(const std::string& name, const std::string& what) const {
  return bad_bundle(file_.path() + ": " + shown(name, kMostName) + " " + what + ": export the voice again");
}

const Tensor& TensorFile::find(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) throw bad_bundle(file_.path() + " lacks " + name + ": export the voice again");
  return found->second;
}

const Tensor& TensorFile::take(const std::string& name, const std::string& type,
                               const std::vector<std::int64_t>& shape) {
  const Tensor& found = find(name);
  if (found.shape != shape) {
    throw wrong(name, "has shape " + shown_shape(found.shape) + " and should have " + shown_shape(shape));
  }
  if (found.type != type) throw wrong(name, "is of type " + found.type + " and should be of type " + type);
  read_.insert(name);
  return found;
}

void TensorFile::read(const std::string& name, const Tensor& tensor, void* to) const {
  file_.read(tensor.offset, to, static_cast<std::size_t>(tensor.bytes));
  if (!in_range(tensor.type, to, static_cast<std::size_t>(tensor.bytes))) {
    throw wrong(name, tensor.type == "I8" ? "has numbers outside -127 to 127"
                                          : "has numbers that are not finite, or larger than a million");
  }
}

Buffer<std::uint8_t> TensorFile::bytes(const std::string& name, const std::string& type,
                                       const std::vector<std::int64_t>& shape) {
  const Tensor& tensor = take(name, type, shape);
  Buffer<std::uint8_t> found(static_cast<std::size_t>(tensor.bytes));
  read(name, tensor, found.data());
  return found;
}

std::string TensorFile::type_of(const std::string& name, const std::string& other) const {
  const std::string& type = find(name).type;
  if (type != "F32" && type != other) throw wrong(name, "is of type " + type + " and should be F32 or " + other);
  return type;
}

Buffer<float> TensorFile::floats(const std::string& name, const std::vector<std::int64_t>& shape, int multiple) {
  const Tensor& tensor = take(name, "F32", shape);
  const auto size = static_cast<std::size_t>(tensor.bytes / 4), of = static_cast<std::size_t>(multiple);
  Buffer<float> found((size + of - 1) / of * of);
  read(name, tensor, found.data());
  return found;
}

Buffer<float> TensorFile::scales(const std::string& name, int rows) {
  Buffer<float> found = floats(name, {rows});
  if (!std::all_of(found.begin(), found.end(), [](float scale) { return scale > 0.0F; })) {
    throw wrong(name, "has scales that are not above 0");
  }
  return found;
}

void TensorFile::check_all_read() const {
  for (const auto& [name, tensor] : tensors_) {
    if (!read_.count(name)) throw wrong(name, "belongs to no voice of the sizes that the manifest gives");
  }
}

namespace {

// FIPS 180-4.
class Sha256 {
 public:
  void add(const std::uint8_t* data, std::size_t count) {
    total_ += count;
    while (count > 0) {
      const std::size_t some = std::min(count, sizeof block_ - filled_);
      std::memcpy(block_ + filled_, data, some);
      filled_ += some;
      data += some;
      count -= some;
      if (filled_ == sizeof block_) mix();
    }
  }

  std::string hexadecimal() {
    const std::uint64_t bits = total_ * 8;
    const std::uint8_t one = 0x80, zero = 0;
    add(&one, 1);
    while (filled_ != 56) add(&zero, 1);
    std::uint8_t length[8];
    for (int i = 0; i < 8; ++i) length[i] = static_cast<std::uint8_t>(bits >> (56 - 8 * i));
    add(length, sizeof length);
    std::string found;
    for (std::uint32_t word : state_) {
      for (int shift = 28; shift >= 0; shift -= 4) found += "0123456789abcdef"[word >> shift & 15];
    }
    return found;
  }

 private:
  static std::uint32_t turn(std::uint32_t x, int by) { return x >> by | x << (32 - by); }

  void mix() {
    // The first 32 bits of the fractions of the cube roots of the first 64 primes.
    static const std::uint32_t kRoots[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    std::uint32_t w[64];
    for (int i = 0; i < 16; ++i) {
      const std::uint8_t* b = block_ + 4 * i;
      w[i] = std::uint32_t{b[0]} << 24 | std::uint32_t{b[1]} << 16 | std::uint32_t{b[2]} << 8 | b[3];
    }
    for (int i = 16; i < 64; ++i) {
      const std::uint32_t a = w[i - 15], b = w[i - 2];
      w[i] = w[i - 16] + (turn(a, 7) ^ turn(a, 18) ^ a >> 3) + w[i - 7] + (turn(b, 17) ^ turn(b, 19) ^ b >> 10);
    }
    std::array<std::uint32_t, 8> s = state_;
    for (int i = 0; i < 64; ++i) {
      const std::uint32_t up = s[7] + (turn(s[4], 6) ^ turn(s[4], 11) ^ turn(s[4], 25)) +
                               ((s[4] & s[5]) ^ (~s[4] & s[6])) + kRoots[i] + w[i];
      const std::uint32_t down =
          (turn(s[0], 2) ^ turn(s[0], 13) ^ turn(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
      s = {up + down, s[0], s[1], s[2], s[3] + up, s[4], s[5], s[6]};
    }
    for (std::size_t i = 0; i < 8; ++i) state_[i] += s[i];
    filled_ = 0;
  }

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::uint8_t block_[64] = {};
  std::size_t filled_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace

std::string sha256_of(const File& file) {
  Sha256 sha;
  std::vector<std::uint8_t> piece(1 << 20);
  for (std::uint64_t place = 0; place < file.size(); place += piece.size()) {
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), file.size() - place));
    file.read(place, piece.data(), count);
    sha.add(piece.data(), count);
  }
  return sha.hexadecimal();
}

}  // namespace fte
