// Sixteen numbers at once, whatever the CPU: one AVX-512 register, two of AVX2 or four of what else there is, by GCC's
// and Clang's vector types. Include it only in files that are built for one set of instructions.
#pragma once

#include <cstdint>
#include <cstring>

#include "everywhere.h"

namespace fte {
namespace {

#if defined(__AVX512F__)
constexpr int kRegister = 64;  // bytes
#elif defined(__AVX2__)
constexpr int kRegister = 32;
#else
constexpr int kRegister = 16;
#endif
constexpr int kParts = 64 / kRegister;

typedef std::uint8_t Bytes __attribute__((vector_size(16)));
typedef std::uint8_t PartBytes __attribute__((vector_size(kRegister / 4)));

// A vector type of 64 bytes would do, but where it takes several registers compilers pass it through memory.
template <class T>
struct Sixteen {
  typedef T Part __attribute__((vector_size(kRegister)));
  Part parts[kParts];

  FTE_EVERYWHERE T& operator[](int i) { return reinterpret_cast<T*>(parts)[i]; }
  FTE_EVERYWHERE T operator[](int i) const { return reinterpret_cast<const T*>(parts)[i]; }
};
typedef Sixteen<float> Floats;
typedef Sixteen<std::int32_t> Ints;

template <class T, class F>
FTE_EVERYWHERE Sixteen<T> by_parts(F&& part) {
  Sixteen<T> found;
  for (int i = 0; i < kParts; ++i) found.parts[i] = part(i);
  return found;
}

#define FTE_BY_PARTS(T, expression) by_parts<T>([&](int i) __attribute__((always_inline)) { return expression; })
#define FTE_OPERATOR(T, sign)                                                                                      \
  FTE_EVERYWHERE Sixteen<T> operator sign(const Sixteen<T>& a, const Sixteen<T>& b) {                              \
    return FTE_BY_PARTS(T, a.parts[i] sign b.parts[i]);                                                            \
  }                                                                                                                \
  FTE_EVERYWHERE Sixteen<T> operator sign(const Sixteen<T>& a, T b) { return FTE_BY_PARTS(T, a.parts[i] sign b); } \
  FTE_EVERYWHERE Sixteen<T> operator sign(T a, const Sixteen<T>& b) { return FTE_BY_PARTS(T, a sign b.parts[i]); }
FTE_OPERATOR(float, +)
FTE_OPERATOR(float, -)
FTE_OPERATOR(float, *)
FTE_OPERATOR(float, /)
FTE_OPERATOR(std::int32_t, +)
FTE_OPERATOR(std::int32_t, -)
FTE_OPERATOR(std::int32_t, *)
FTE_OPERATOR(std::int32_t, &)
FTE_OPERATOR(std::int32_t, |)
FTE_OPERATOR(std::int32_t, <<)
FTE_OPERATOR(std::int32_t, >>)
FTE_OPERATOR(std::int32_t, >=)  // all ones where it is so
#undef FTE_OPERATOR
FTE_EVERYWHERE Floats operator-(const Floats& a) { return FTE_BY_PARTS(float, -a.parts[i]); }
FTE_EVERYWHERE Ints operator~(const Ints& a) { return FTE_BY_PARTS(std::int32_t, ~a.parts[i]); }
FTE_EVERYWHERE void operator+=(Floats& a, const Floats& b) {
  for (int i = 0; i < kParts; ++i) a.parts[i] += b.parts[i];
}
FTE_EVERYWHERE void operator*=(Floats& a, const Floats& b) {
  for (int i = 0; i < kParts; ++i) a.parts[i] *= b.parts[i];
}

template <class T>
FTE_EVERYWHERE Sixteen<T> load(const T* from) {
  Sixteen<T> found;
  for (int i = 0; i < kParts; ++i) std::memcpy(&found.parts[i], from + i * 16 / kParts, kRegister);
  return found;
}
template <class T>
FTE_EVERYWHERE void store(T* to, const Sixteen<T>& values) {
  for (int i = 0; i < kParts; ++i) std::memcpy(to + i * 16 / kParts, &values.parts[i], kRegister);
}
FTE_EVERYWHERE Floats spread(float value) { return Floats{} + value; }
FTE_EVERYWHERE Floats broadcast(float value, const Floats&) { return spread(value); }

FTE_EVERYWHERE Floats to_floats(const Ints& a) {
  return FTE_BY_PARTS(float, __builtin_convertvector(a.parts[i], Floats::Part));
}
FTE_EVERYWHERE Ints to_ints(const Floats& a) {
  return FTE_BY_PARTS(std::int32_t, __builtin_convertvector(a.parts[i], Ints::Part));
}
// The same bits.
FTE_EVERYWHERE Floats as_floats(const Ints& a) { return FTE_BY_PARTS(float, (Floats::Part)a.parts[i]); }
FTE_EVERYWHERE Ints as_ints(const Floats& a) { return FTE_BY_PARTS(std::int32_t, (Ints::Part)a.parts[i]); }
// Values of 0 to 255.
FTE_EVERYWHERE Bytes to_bytes(const Ints& a) {
  Bytes found;
  for (int i = 0; i < kParts; ++i) {
    const PartBytes part = __builtin_convertvector(a.parts[i], PartBytes);
    std::memcpy(reinterpret_cast<char*>(&found) + i * kRegister / 4, &part, sizeof part);
  }
  return found;
}
FTE_EVERYWHERE Ints from_halves(const std::uint16_t* from) {
  typedef std::uint16_t Part __attribute__((vector_size(kRegister / 2)));
  return by_parts<std::int32_t>([&](int i) __attribute__((always_inline)) {
    Part part;
    std::memcpy(&part, from + i * kRegister / 4, sizeof part);
    return __builtin_convertvector(part, Ints::Part);
  });
}

FTE_EVERYWHERE Floats smaller(const Floats& a, const Floats& b) {
  return FTE_BY_PARTS(float, a.parts[i] < b.parts[i] ? a.parts[i] : b.parts[i]);
}
FTE_EVERYWHERE Floats larger(const Floats& a, const Floats& b) {
  return FTE_BY_PARTS(float, a.parts[i] > b.parts[i] ? a.parts[i] : b.parts[i]);
}
FTE_EVERYWHERE Floats magnitude(const Floats& a) { return as_floats(as_ints(a) & 0x7fffffff); }
FTE_EVERYWHERE Floats times_power_of_two(const Floats& value, const Floats& whole) {
  return value * as_floats((to_ints(whole) + 127) << 23);
}
#undef FTE_BY_PARTS

FTE_EVERYWHERE float sum_of(const Floats& v) {
  float sum = 0.0F;
  for (int i = 0; i < 16; ++i) sum += v[i];
  return sum;
}
FTE_EVERYWHERE float largest_of(const Floats& v) {
  float found = v[0];
  for (int i = 1; i < 16; ++i) found = found < v[i] ? v[i] : found;
  return found;
}

// The nearest whole numbers of values below 2^22 in magnitude, as ints.
FTE_EVERYWHERE Ints nearest(const Floats& values) { return as_ints(values + 12582912.0F) - 0x4b400000; }

}  // namespace
}  // namespace fte

#include "elementary.h"  // last: its templates use what is above
