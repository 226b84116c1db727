// JSON, as far as manifests and tensor files need it. Strict, bounded in depth and number of values, keys of an object
// all different.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fte {

class Json {
 public:
  enum class Type { null, boolean, number, text, list, object };

  // Throws Fault. `where` names the text in it.
  static Json parse(const std::string& text, const std::string& where);

  Type type() const { return type_; }
  bool is_null() const { return type_ == Type::null; }

  // What a member or an item is. Each throws Fault, which names the path to it, where it is not.
  const Json& at(const std::string& key) const;
  const Json* find(const std::string& key) const;  // nothing where there is no such key
  bool boolean() const;
  std::int64_t whole(std::int64_t least, std::int64_t most) const;
  const std::string& text() const;
  const std::vector<Json>& list() const;
  const std::map<std::string, Json>& object() const;

 private:
  friend class JsonParser;
  [[noreturn]] void wrong(const std::string& expected) const;

  Type type_ = Type::null;
  std::string path_;
  bool boolean_ = false;
  double number_ = 0.0;
  std::string text_;
  std::vector<Json> list_;
  std::map<std::string, Json> object_;
};

}  // namespace fte
