// What went wrong, in a sentence for the user. Never leaves the library as an exception.
#pragma once

#include <stdexcept>
#include <string>

namespace fte {

enum class Kind { argument, bundle, cancelled, memory, internal };

class Fault : public std::runtime_error {
 public:
  Fault(Kind kind, const std::string& what) : std::runtime_error(what), kind_(kind) {}
  Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

inline Fault bad_bundle(const std::string& what) { return {Kind::bundle, what}; }
inline Fault bad_argument(const std::string& what) { return {Kind::argument, what}; }

}  // namespace fte
