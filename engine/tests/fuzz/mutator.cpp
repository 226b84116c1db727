// Changes seeds of the fuzzer in ways that keep their form (sizes, flags, tensors, types, numbers, places), several at
// a time, and makes the hashes right: what a reader meets that random bytes hardly reach.
//
//   bundle_mutator CORPUS COUNT [SEED]
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "../bundle_parts.h"

bool open_and_speak(const std::string& folder, bool check_hash);  // bundle_fuzzer.cpp

namespace {

using namespace fte_test;

struct Seed {
  std::string precision, manifest;
  std::vector<Entry> entries;
};

Seed read_seed(const std::string& path, const std::string& precision) {
  const std::string text = read_file(path);
  std::uint32_t size = 0;
  std::memcpy(&size, text.data(), sizeof size);
  const std::string manifest = text.substr(4, size);
  return {precision, without_files(manifest), take_apart(text.substr(4 + size))};
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  void change(Seed& seed) {
    switch (below(9)) {
      case 0:
        return change_size(seed);
      case 1:
        return change_shape(any(seed.entries));
      case 2:
        return change_type(any(seed.entries));
      case 3:
        return change_place(any(seed.entries));
      case 4:
        return change_order(seed.entries);
      default:  // numbers most of all: such a bundle may open
        return change_number(any(seed.entries));
    }
  }

  std::size_t below(std::size_t count) { return random_() % count; }

 private:
  template <class T>
  T& any(std::vector<T>& things) {
    return things[below(things.size())];
  }

  void change_size(Seed& seed) {
    const char* section = below(2) ? "flowtron" : "waveglow";
    std::vector<std::string> keys = keys_of(seed.manifest, section);
    const std::string& key = any(keys);
    const std::string now = value_of(seed.manifest, section, key);
    const long size = std::atol(now.c_str());
    std::vector<std::string> others = {std::to_string(size + 1),
                                       std::to_string(size - 1),
                                       std::to_string(2 * size),
                                       std::to_string(size / 2),
                                       std::to_string(1L << below(40)),
                                       "null",
                                       "true",
                                       "1e300",
                                       "\"\\u0000\\n\""};
    if (now == "true" || now == "false") others = {now == "true" ? "false" : "true"};
    seed.manifest = with_value(seed.manifest, section, key, any(others));
  }

  void change_shape(Entry& entry) {
    std::vector<std::int64_t> others = {0, 1, 2, 3, 4, 16, std::int64_t{1} << below(40)};
    if (below(3) == 0) {
      std::reverse(entry.shape.begin(), entry.shape.end());
    } else {
      any(entry.shape) = any(others);
    }
    std::size_t bytes = size_of_type(entry.type);
    for (std::int64_t length : entry.shape)
      bytes = bytes > (1 << 20) ? bytes : bytes * static_cast<std::size_t>(length);
    if (below(2) && bytes <= (1 << 20)) entry.numbers.resize(bytes, '\1');
  }

  void change_type(Entry& entry) {
    std::vector<std::string> types = {"F32", "F16", "BF16", "I8", "I64", "F\\u000a2"};
    const std::string& type = any(types);
    if (below(2)) {
      entry.numbers.resize(entry.numbers.size() / size_of_type(entry.type) * size_of_type(type), '\1');
    }
    entry.type = type;
  }

  void change_place(Entry& entry) {
    const long bytes[] = {-8, -4, -2, -1, 1, 2, 4, 8, 1L << 40};
    if (below(2)) entry.shift = bytes[below(9)];
    if (below(2)) entry.more = bytes[below(9)];
  }

  void change_order(std::vector<Entry>& entries) {
    const std::size_t i = below(entries.size()), k = below(entries.size());
    switch (below(4)) {
      case 0:
        return std::swap(entries[i], entries[k]);
      case 1:
        return std::swap(entries[i].name, entries[k].name);
      case 2:
        entries.erase(entries.begin() + static_cast<long>(i));
        return;
      default:
        entries.push_back(entries[i]);
        entries.back().name += below(2) ? "" : below(2) ? "x" : "\\u001b[31m\xff";
    }
  }

  void change_number(Entry& entry) {
    const std::size_t size = size_of_type(entry.type), count = entry.numbers.size() / size;
    if (count == 0) return;
    const std::uint32_t values[] = {0x7f800000, 0xff800000, 0x7fc00000, 0x49742400, 0xc9742400, 0x49742401, 0x7f7fffff,
                                    0x80000000, 0x00000001, 0x80808080, 0x7c007c00, 0x7bff7bff, 0x477fe000, 0xc47a0000};
    std::uint32_t bits = below(4) ? values[below(14)] : static_cast<std::uint32_t>(random_());
    char bytes[4];
    std::memcpy(bytes, &bits, sizeof bits);
    const bool all = below(3) == 0;
    const std::size_t first = all ? 0 : below(count), last = all ? count : first + 1;
    for (std::size_t i = first; i < last; ++i) std::memcpy(&entry.numbers[i * size], bytes + 4 - size, size);
  }

  std::mt19937 random_;
};

}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 3 || argc == 4);
  const long count = std::atol(argv[2]);
  Mutator mutator(argc == 4 ? static_cast<unsigned>(std::atol(argv[3])) : 1);
  std::vector<Seed> seeds;
  for (const char* form : {"plain", "cumulative"}) {
    for (const char* precision : {"fp32", "fp16", "int8"}) {
      seeds.push_back(read_seed(std::string(argv[1]) + "/" + form + "." + precision, precision));
    }
  }
  Folder folder;
  long opened = 0;
  for (const Seed& seed : seeds) {
    folder.write(seed.manifest, seed.precision, put_together(seed.entries));
    CHECK(open_and_speak(folder.path(), true));
  }
  for (long i = 0; i < count; ++i) {
    Seed seed = seeds[mutator.below(seeds.size())];
    for (std::size_t changes = 1 + mutator.below(3); changes > 0 && !seed.entries.empty(); --changes)
      mutator.change(seed);
    folder.write(seed.manifest, seed.precision, put_together(seed.entries));
    opened += open_and_speak(folder.path(), true);
  }
  std::printf("%ld bundles, %ld of which opened: ok\n", count, opened);
  CHECK(count < 1000 || (opened > count / 100 && opened < count));
  return 0;
}
