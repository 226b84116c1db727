// exp, sigmoid and tanh without branches, for one value or a vector of them, on a CPU or a GPU: all devices compute the
// same polynomials. Absolute errors of sigmoid and tanh are below 2e-7.
#pragma once

#include <cstdint>

#include "everywhere.h"

namespace fte {

// What the polynomials need of a type of numbers. simd.h has the same for vectors, and has to be included before this.
FTE_EVERYWHERE float broadcast(float value, float) { return value; }
FTE_EVERYWHERE float smaller(float a, float b) { return a < b ? a : b; }
FTE_EVERYWHERE float larger(float a, float b) { return a > b ? a : b; }
FTE_EVERYWHERE float times_power_of_two(float value, float whole) {
  union {
    std::int32_t bits;
    float number;
  } power;
  power.bits = (static_cast<std::int32_t>(whole) + 127) << 23;
  return value * power.number;
}

// e to the x; x beyond -87 to 88 counts as that end.
template <class V>
FTE_EVERYWHERE V exp_of(V x) {
  const V kHighest = broadcast(88.0F, x), kLowest = broadcast(-87.0F, x);
  x = smaller(larger(x, kLowest), kHighest);
  // The nearest whole number: adding 1.5 * 2^23 leaves no room for a fraction.
  const V whole = (x * 1.44269504F + 12582912.0F) - 12582912.0F;
  const V r = x - whole * 0.693359375F + whole * 2.12194440e-4F;  // ln 2 in two parts, for the rest to be exact
  V p = r * 1.9875691500e-4F + 1.3981999507e-3F;                  // Cephes' polynomial for -ln(2)/2 to ln(2)/2
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  return times_power_of_two(p, whole);
}

template <class V>
FTE_EVERYWHERE V sigmoid(V x) {
  return 1.0F / (1.0F + exp_of(-x));
}

template <class V>
FTE_EVERYWHERE V tanh_of(V x) {
  return 1.0F - 2.0F / (exp_of(x + x) + 1.0F);
}

// tanh(x) * sigmoid(y) with one division.
template <class V>
FTE_EVERYWHERE V gate_of(V x, V y) {
  x = smaller(larger(x, broadcast(-15.0F, x)), broadcast(15.0F, x));
  const V e = exp_of(x + x);
  y = smaller(larger(y, broadcast(-30.0F, y)), broadcast(30.0F, y));
  return (e - 1.0F) / ((e + 1.0F) * (1.0F + exp_of(-y)));
}

}  // namespace fte
