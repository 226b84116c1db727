// What went wrong, in a sentence for the user. Never leaves the library as an exception.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

namespace fte {

enum class Kind { argument, bundle, cancelled, memory, internal };

// A text from outside (a path, a key, a name) as part of a sentence: valid UTF-8 on one line, in which everything that
// a terminal might act on stands as an escape (\n, \x1b), and whose middle is left out past `most` bytes.
std::string shown(const std::string& text, std::size_t most = 200);

class Fault : public std::runtime_error {
 public:
  Fault(Kind kind, const std::string& what) : std::runtime_error(shown(what, kMostText)), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  static constexpr std::size_t kMostText = 1000;  // bytes

  Kind kind_;
};

inline Fault bad_bundle(const std::string& what) { return {Kind::bundle, what}; }
inline Fault bad_argument(const std::string& what) { return {Kind::argument, what}; }

}  // namespace fte
