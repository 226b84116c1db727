#include "matrix.h"

#include <cassert>
#include <cmath>

namespace fte {
namespace {

constexpr float kLevels = 127.0F;  // largest magnitude used, so that the range is symmetric

Matrix make(Numbers numbers, int rows, int columns) {
  assert(rows > 0 && columns > 0);
  Matrix m;
  m.numbers = numbers;
  m.rows = rows;
  m.columns = columns;
  m.depth = round_up(columns, 4);
  const auto stored = static_cast<std::size_t>(round_up(rows, kTile));
  m.values = Buffer<std::uint8_t>(stored * static_cast<std::size_t>(m.depth) * size_of(numbers));
  if (numbers == Numbers::int8) {
    m.scales = Buffer<float>(stored);
    m.sums = Buffer<std::int32_t>(stored);
  }
  return m;
}

template <class T>
void put_row(Matrix& m, int row, const T* source) {
  T* tile = reinterpret_cast<T*>(m.values.data()) +
            static_cast<std::size_t>(row / kTile) * static_cast<std::size_t>(m.depth) * kTile;
  const int lane = row % kTile;
  if (m.numbers == Numbers::int8) {
    for (int k = 0; k < m.columns; ++k) tile[(k / 4 * kTile + lane) * 4 + k % 4] = source[k];
  } else {
    for (int k = 0; k < m.columns; ++k) tile[k * kTile + lane] = source[k];
  }
}

void put_int8_row(Matrix& m, int row, const std::int8_t* source, float scale) {
  put_row(m, row, source);
  const auto r = static_cast<std::size_t>(row);
  m.scales[r] = scale;
  for (int k = 0; k < m.columns; ++k) m.sums[r] += source[k];
}

}  // namespace

Matrix pack(Numbers numbers, const void* weights, int rows, int columns, const float* scales,
            const std::vector<int>* order) {
  Matrix m = make(numbers, rows, columns);
  for (int row = 0; row < rows; ++row) {
    const int from = order ? (*order)[static_cast<std::size_t>(row)] : row;
    const auto offset = static_cast<std::size_t>(from) * static_cast<std::size_t>(columns);
    switch (numbers) {
      case Numbers::fp32:
        put_row(m, row, static_cast<const float*>(weights) + offset);
        break;
      case Numbers::fp16:
      case Numbers::bf16:
        put_row(m, row, static_cast<const std::uint16_t*>(weights) + offset);
        break;
      case Numbers::int8:
        put_int8_row(m, row, static_cast<const std::int8_t*>(weights) + offset, scales[from]);
        break;
    }
  }
  return m;
}

Matrix pack_quantized(const float* weights, int rows, int columns) {
  Matrix m = make(Numbers::int8, rows, columns);
  std::vector<std::int8_t> quantized(static_cast<std::size_t>(columns));
  for (int row = 0; row < rows; ++row) {
    const float* source = weights + static_cast<std::size_t>(row) * static_cast<std::size_t>(columns);
    float largest = 0.0F;
    for (int k = 0; k < columns; ++k) largest = std::fmax(largest, std::fabs(source[k]));
    const float scale = largest == 0.0F ? 1.0F : largest / kLevels;
    for (int k = 0; k < columns; ++k) {
      quantized[static_cast<std::size_t>(k)] = static_cast<std::int8_t>(std::nearbyint(source[k] / scale));
    }
    put_int8_row(m, row, quantized.data(), scale);
  }
  return m;
}

float float_of(Numbers numbers, std::uint16_t bits) {
  union {
    std::uint32_t bits;
    float number;
  } found;
  if (numbers == Numbers::bf16) {
    found.bits = static_cast<std::uint32_t>(bits) << 16;
    return found.number;
  }
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000U) << 16, magnitude = bits & 0x7fffU;
  if (magnitude >= 0x7c00U) {  // infinite, or no number
    found.bits = sign | 0x7f800000U | ((magnitude & 0x3ffU) << 13);
    return found.number;
  }
  found.bits = magnitude << 13;           // its exponent counts from 15
  found.number *= 5.192296858534828e33F;  // 2^112: now it counts from 127; subnormal numbers come right by themselves
  found.bits |= sign;
  return found.number;
}

}  // namespace fte
