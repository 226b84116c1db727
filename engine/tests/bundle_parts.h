// A bundle taken apart, so that one thing in it can be changed and everything else, hashes too, be made to fit.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "check.h"
#include "fte/fte.h"
#include "json.h"
#include "tensors.h"

namespace fte_test {

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  CHECK(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

struct Entry {
  std::string name, type;
  std::vector<std::int64_t> shape;
  std::string numbers;
  long shift = 0, more = 0;  // bytes by which its data_offsets are moved, and its end beyond that
};

inline std::size_t size_of_type(const std::string& type) {
  return type == "F32" ? 4 : type == "F16" || type == "BF16" ? 2 : 1;
}

// The tensors of a file in the order in which they lie in it.
inline std::vector<Entry> take_apart(const std::string& file) {
  std::uint64_t header = 0;
  std::memcpy(&header, file.data(), sizeof header);
  const fte::Json json = fte::Json::parse(file.substr(8, header), "weights");
  std::vector<std::pair<std::size_t, Entry>> found;
  for (const auto& [name, value] : json.object()) {
    if (name == "__metadata__") continue;
    Entry entry;
    entry.name = name;
    entry.type = value.at("dtype").text();
    for (const fte::Json& each : value.at("shape").list()) entry.shape.push_back(each.whole(0, 1 << 30));
    const auto first = static_cast<std::size_t>(value.at("data_offsets").list()[0].whole(0, 1 << 30));
    const auto last = static_cast<std::size_t>(value.at("data_offsets").list()[1].whole(0, 1 << 30));
    entry.numbers = file.substr(8 + header + first, last - first);
    found.emplace_back(first, entry);
  }
  std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Entry> entries;
  for (auto& [first, entry] : found) entries.push_back(std::move(entry));
  return entries;
}

inline std::string put_together(const std::vector<Entry>& entries) {
  std::string header = "{", numbers;
  for (const Entry& entry : entries) {
    const long first = static_cast<long>(numbers.size()) + entry.shift;
    const long last = first + static_cast<long>(entry.numbers.size()) + entry.more;
    header += (header.size() > 1 ? ",\"" : "\"") + entry.name + "\":{\"dtype\":\"" + entry.type + "\",\"shape\":[";
    for (std::size_t i = 0; i < entry.shape.size(); ++i) header += (i ? "," : "") + std::to_string(entry.shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(first) + "," + std::to_string(last) + "]}";
    numbers += entry.numbers;
  }
  header += "}";
  while (header.size() % 8 != 0) header += ' ';
  std::string length(8, '\0');
  const std::uint64_t size = header.size();
  std::memcpy(length.data(), &size, sizeof size);
  return length + header + numbers;
}

// Where the value of `key` in the object `section` of a manifest begins and ends; its keys have no others inside.
inline std::pair<std::size_t, std::size_t> place_of(const std::string& manifest, const std::string& section,
                                                    const std::string& key) {
  const std::size_t object = manifest.find('{', manifest.find("\"" + section + "\""));
  const std::size_t found = manifest.find("\"" + key + "\"", object);
  CHECK(object != std::string::npos && found != std::string::npos && found < manifest.find('}', object));
  std::size_t first = found + key.size() + 3;  // behind the colon
  while (std::isspace(static_cast<unsigned char>(manifest[first]))) ++first;
  std::size_t last = first;
  while (!std::strchr(",}\n", manifest[last])) ++last;
  return {first, last};
}

inline std::string value_of(const std::string& manifest, const std::string& section, const std::string& key) {
  const auto [first, last] = place_of(manifest, section, key);
  return manifest.substr(first, last - first);
}

inline std::string with_value(const std::string& manifest, const std::string& section, const std::string& key,
                              const std::string& value) {
  const auto [first, last] = place_of(manifest, section, key);
  return manifest.substr(0, first) + value + manifest.substr(last);
}

// The keys of a manifest's section.
inline std::vector<std::string> keys_of(const std::string& manifest, const std::string& section) {
  std::vector<std::string> keys;
  const fte::Json json = fte::Json::parse(manifest, "manifest");
  for (const auto& [key, value] : json.at(section).object()) keys.push_back(key);
  return keys;
}

// A folder that holds a manifest and the weights it names "w".
class Folder {
 public:
  Folder() {
    char name[] = "/dev/shm/fte_parts_XXXXXX";
    CHECK(mkdtemp(name));
    path_ = name;
  }
  ~Folder() {
    unlink((path_ + "/manifest.json").c_str());
    unlink((path_ + "/w").c_str());
    rmdir(path_.c_str());
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  const std::string& path() const { return path_; }

  // A manifest without "engine" and "files" gets them: the weights in `precision`, with the hash that they have.
  void write(std::string manifest, const std::string& precision, const std::string& weights) {
    write_file(path_ + "/w", weights);
    const std::string hash = fte::sha256_of(fte::File(path_ + "/w"));
    manifest.resize(manifest.rfind('}'));
    manifest += ",\"engine\":{\"" + precision + "\":\"w\"},\"files\":{\"w\":{\"sha256\":\"" + hash + "\"}}}";
    write_file(path_ + "/manifest.json", manifest);
  }

 private:
  std::string path_;
};

// A manifest's members without those that name files.
inline std::string without_files(const std::string& manifest) {
  const fte::Json json = fte::Json::parse(manifest, "manifest");
  std::string found = "{\"format\":\"fte-voice\",\"version\":1";
  for (const char* section : {"flowtron", "waveglow", "audio"}) {
    if (json.at(section).is_null()) {
      found += ",\"" + std::string(section) + "\":null";
      continue;
    }
    const std::size_t first = manifest.find('{', manifest.find("\"" + std::string(section) + "\""));
    found += ",\"" + std::string(section) + "\":" + manifest.substr(first, manifest.find('}', first) + 1 - first);
  }
  return found + "}";
}

// Whether the text of the last error is one line of printable text that says something.
inline bool is_sentence(const std::string& text) {
  return text.size() > 10 && text.size() <= 1100 && std::none_of(text.begin(), text.end(), [](char c) {
           return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
         });
}

}  // namespace fte_test
