// Sixteen numbers at once, whatever the CPU: GCC's and Clang's vector types, which become one AVX-512 register, two of
// AVX2 or four of what else there is. Include it only in files that are built for one set of instructions.
#pragma once

#include <cstdint>
#include <cstring>

#include "everywhere.h"

namespace fte {

typedef float Floats __attribute__((vector_size(64)));
typedef std::int32_t Ints __attribute__((vector_size(64)));

FTE_EVERYWHERE Floats load(const float* from) {
  Floats found;
  std::memcpy(&found, from, sizeof found);
  return found;
}
FTE_EVERYWHERE void store(float* to, Floats values) { std::memcpy(to, &values, sizeof values); }
FTE_EVERYWHERE Ints load(const std::int32_t* from) {
  Ints found;
  std::memcpy(&found, from, sizeof found);
  return found;
}
FTE_EVERYWHERE Floats spread(float value) { return value - Floats{}; }
FTE_EVERYWHERE Floats to_floats(Ints values) { return __builtin_convertvector(values, Floats); }
FTE_EVERYWHERE Ints to_ints(Floats values) { return __builtin_convertvector(values, Ints); }

FTE_EVERYWHERE Floats broadcast(float value, Floats) { return spread(value); }
FTE_EVERYWHERE Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
FTE_EVERYWHERE Floats larger(Floats a, Floats b) { return a > b ? a : b; }
FTE_EVERYWHERE Floats magnitude(Floats a) { return (Floats)((Ints)a & 0x7fffffff); }
FTE_EVERYWHERE Floats times_power_of_two(Floats value, Floats whole) {
  return value * (Floats)((to_ints(whole) + 127) << 23);
}

FTE_EVERYWHERE float sum_of(Floats v) {
  float sum = 0.0F;
  for (int i = 0; i < 16; ++i) sum += v[i];
  return sum;
}
FTE_EVERYWHERE float largest_of(Floats v) {
  float found = v[0];
  for (int i = 1; i < 16; ++i) found = found < v[i] ? v[i] : found;
  return found;
}

// The nearest whole numbers of values below 2^22 in magnitude, as ints.
FTE_EVERYWHERE Ints nearest(Floats values) { return (Ints)(values + 12582912.0F) - 0x4b400000; }

}  // namespace fte

#include "elementary.h"  // last: its templates use what is above
