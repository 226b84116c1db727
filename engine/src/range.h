// Whether many numbers are finite or small enough, in loops without branches, so that compilers make vectors of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fte {

// Floats compared as the integers that their bits are, less the sign: these have the order of the magnitudes, with
// infinities and NaN above all numbers. T is an integer of the floats' size; `most` the bits of the largest allowed.
template <class T>
bool all_within(const void* numbers, std::size_t count, T most) {
  constexpr auto kMagnitude = static_cast<T>(~(std::uint64_t{1} << (8 * sizeof(T) - 1)));
  const auto* from = static_cast<const unsigned char*>(numbers);
  T negative_where_larger = 0;
  for (std::size_t i = 0; i < count; ++i) {
    T bits;
    std::memcpy(&bits, from + i * sizeof bits, sizeof bits);
    negative_where_larger = static_cast<T>(negative_where_larger | static_cast<T>(most - (bits & kMagnitude)));
  }
  return negative_where_larger >= 0;
}

// The magnitude of every float is at most this; NaN's is not.
inline bool all_within(const float* values, std::size_t count, float most) {
  std::int32_t bits;
  std::memcpy(&bits, &most, sizeof bits);
  return all_within<std::int32_t>(values, count, bits);
}

inline bool all_finite(const float* values, std::size_t count) {
  constexpr std::int32_t kLargest = 0x7f7fffff;
  return all_within<std::int32_t>(values, count, kLargest);
}

}  // namespace fte
