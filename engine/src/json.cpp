#include "json.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "fault.h"

namespace fte {
namespace {

constexpr int kMostDepth = 32;
constexpr int kMostValues = 1 << 18;  // so that a text of megabytes cannot become gigabytes

constexpr std::size_t kMostKey = 60;  // bytes of a key in an error

}  // namespace

class JsonParser {
 public:
  JsonParser(const std::string& text, const std::string& where) : text_(text), where_(where) {}

  Json parse() {
    Json found = value(where_, 0);
    skip();
    if (place_ != text_.size()) wrong("something follows its end");
    return found;
  }

 private:
  [[noreturn]] void wrong(const std::string& what) const {
    throw bad_bundle(where_ + " is not valid JSON at byte " + std::to_string(place_) + ": " + what);
  }

  void skip() {
    while (place_ < text_.size() && std::strchr(" \t\r\n", text_[place_]) && text_[place_] != '\0') ++place_;
  }

  char next() {
    if (place_ == text_.size()) wrong("it ends too early");
    return text_[place_];
  }

  void take(char expected) {
    if (next() != expected) wrong(std::string("expected ") + expected);
    ++place_;
  }

  bool taken(const char* word) {
    const std::size_t size = std::strlen(word);
    if (text_.compare(place_, size, word) != 0) return false;
    place_ += size;
    return true;
  }

  Json value(const std::string& path, int depth) {
    if (depth > kMostDepth) wrong("it is nested too deeply");
    if (++values_ > kMostValues) wrong("it has too many values");
    skip();
    Json found;
    found.path_ = path;
    const char c = next();
    if (c == '{') {
      object(found, depth);
    } else if (c == '[') {
      list(found, depth);
    } else if (c == '"') {
      found.type_ = Json::Type::text;
      found.text_ = string();
    } else if (taken("true")) {
      found.type_ = Json::Type::boolean;
      found.boolean_ = true;
    } else if (taken("false")) {
      found.type_ = Json::Type::boolean;
    } else if (!taken("null")) {
      found.type_ = Json::Type::number;
      found.number_ = number();
    }
    return found;
  }

  void object(Json& found, int depth) {
    found.type_ = Json::Type::object;
    take('{');
    skip();
    if (next() == '}') {
      ++place_;
      return;
    }
    for (;;) {
      skip();
      const std::string key = string();
      skip();
      take(':');
      Json member = value(found.path_ + "." + shown(key, kMostKey), depth + 1);
      if (!found.object_.emplace(key, std::move(member)).second)
        wrong("the key " + shown(key, kMostKey) + " stands twice");
      skip();
      if (next() == '}') break;
      take(',');
    }
    ++place_;
  }

  void list(Json& found, int depth) {
    found.type_ = Json::Type::list;
    take('[');
    skip();
    if (next() == ']') {
      ++place_;
      return;
    }
    for (;;) {
      found.list_.push_back(value(found.path_ + "[" + std::to_string(found.list_.size()) + "]", depth + 1));
      skip();
      if (next() == ']') break;
      take(',');
    }
    ++place_;
  }

  unsigned hexadecimal() {
    unsigned code = 0;
    for (int i = 0; i < 4; ++i) {
      const char c = next();
      ++place_;
      code *= 16;
      if (c >= '0' && c <= '9') {
        code += static_cast<unsigned>(c - '0');
      } else if ((c | 32) >= 'a' && (c | 32) <= 'f') {
        code += static_cast<unsigned>((c | 32) - 'a') + 10;
      } else {
        wrong("a \\u needs four hexadecimal digits");
      }
    }
    return code;
  }

  static void put_utf8(std::string& to, unsigned code) {
    if (code < 0x80) {
      to += static_cast<char>(code);
    } else if (code < 0x800) {
      to += static_cast<char>(0xc0 | (code >> 6));
      to += static_cast<char>(0x80 | (code & 63));
    } else if (code < 0x10000) {
      to += static_cast<char>(0xe0 | (code >> 12));
      to += static_cast<char>(0x80 | ((code >> 6) & 63));
      to += static_cast<char>(0x80 | (code & 63));
    } else {
      to += static_cast<char>(0xf0 | (code >> 18));
      to += static_cast<char>(0x80 | ((code >> 12) & 63));
      to += static_cast<char>(0x80 | ((code >> 6) & 63));
      to += static_cast<char>(0x80 | (code & 63));
    }
  }

  std::string string() {
    take('"');
    std::string found;
    for (;;) {
      const char c = next();
      ++place_;
      if (c == '"') return found;
      if (static_cast<unsigned char>(c) < ' ') wrong("a text has a control character");
      if (c != '\\') {
        found += c;
        continue;
      }
      escape(found);
    }
  }

  void escape(std::string& to) {
    static const char kNames[] = "\"\\/bfnrt", kMeanings[] = "\"\\/\b\f\n\r\t";
    const char c = next();
    ++place_;
    if (c == 'u') {
      unsigned code = hexadecimal();
      if (code >= 0xd800 && code < 0xdc00 && taken("\\u")) {
        const unsigned low = hexadecimal();
        if (low < 0xdc00 || low >= 0xe000) wrong("half of a surrogate pair is missing");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      } else if (code >= 0xd800 && code < 0xe000) {
        wrong("half of a surrogate pair is missing");
      }
      put_utf8(to, code);
      return;
    }
    const char* name = c == '\0' ? nullptr : std::strchr(kNames, c);
    if (!name) wrong("an escape is unknown");
    to += kMeanings[name - kNames];
  }

  void digits() {
    if (next() < '0' || next() > '9') wrong("a value is none");
    while (place_ < text_.size() && text_[place_] >= '0' && text_[place_] <= '9') ++place_;
  }

  double number() {
    const std::size_t start = place_;
    if (next() == '-') ++place_;
    if (next() == '0') {
      ++place_;
    } else {
      digits();
    }
    if (place_ < text_.size() && text_[place_] == '.') {
      ++place_;
      digits();
    }
    if (place_ < text_.size() && (text_[place_] == 'e' || text_[place_] == 'E')) {
      ++place_;
      if (next() == '+' || next() == '-') ++place_;
      digits();
    }
    if (place_ - start > 64) wrong("a number is too long");
    return std::strtod(text_.substr(start, place_ - start).c_str(), nullptr);
  }

  const std::string& text_;
  const std::string& where_;
  std::size_t place_ = 0;
  int values_ = 0;
};

Json Json::parse(const std::string& text, const std::string& where) { return JsonParser(text, where).parse(); }

void Json::wrong(const std::string& expected) const { throw bad_bundle(path_ + " is not " + expected); }

const Json* Json::find(const std::string& key) const {
  if (type_ != Type::object) wrong("an object");
  const auto found = object_.find(key);
  return found == object_.end() ? nullptr : &found->second;
}

const Json& Json::at(const std::string& key) const {
  const Json* found = find(key);
  if (!found) throw bad_bundle(path_ + " lacks " + key);
  return *found;
}

bool Json::boolean() const {
  if (type_ != Type::boolean) wrong("true or false");
  return boolean_;
}

std::int64_t Json::whole(std::int64_t least, std::int64_t most) const {
  const bool inside = type_ == Type::number && number_ >= static_cast<double>(least) &&
                      number_ <= static_cast<double>(most) && std::floor(number_) == number_;
  if (!inside) wrong("a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  return static_cast<std::int64_t>(number_);
}

const std::string& Json::text() const {
  if (type_ != Type::text) wrong("a text");
  return text_;
}

const std::vector<Json>& Json::list() const {
  if (type_ != Type::list) wrong("a list");
  return list_;
}

const std::map<std::string, Json>& Json::object() const {
  if (type_ != Type::object) wrong("an object");
  return object_;
}

}  // namespace fte
