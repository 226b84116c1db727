// Weights as a GPU reads them: row after row, each filled up with zeros to a multiple of 16 numbers, so that a lane of
// a warp takes 16 bytes at once.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "matrix.h"

namespace fte {

constexpr int kRowMultiple = 16;  // numbers

// The numbers of a packed matrix (rows, stride): its own for fp16 and int8; bf16 and fp32 as floats.
struct Rows {
  Numbers numbers = Numbers::fp32;
  int rows = 0, columns = 0, stride = 0;
  std::vector<std::uint8_t> values;
  std::vector<float> scales;       // int8: (rows)
  std::vector<std::int32_t> sums;  // int8: of each row
};

inline Rows unpack(const Matrix& m) {
  Rows found;
  found.numbers = m.numbers == Numbers::bf16 ? Numbers::fp32 : m.numbers;
  found.rows = m.rows;
  found.columns = m.columns;
  found.stride = round_up(m.columns, kRowMultiple);
  const std::size_t size = size_of(found.numbers), stride = static_cast<std::size_t>(found.stride);
  found.values.resize(static_cast<std::size_t>(m.rows) * stride * size);
  for (int row = 0; row < m.rows; ++row) {
    const std::uint8_t* tile = m.tile(row / kTile);
    const int lane = row % kTile;
    for (int k = 0; k < m.columns; ++k) {
      const int place = m.numbers == Numbers::int8 ? (k / 4 * kTile + lane) * 4 + k % 4 : k * kTile + lane;
      const std::uint8_t* from = tile + static_cast<std::size_t>(place) * size_of(m.numbers);
      std::uint8_t* to =
          found.values.data() + (static_cast<std::size_t>(row) * stride + static_cast<std::size_t>(k)) * size;
      if (m.numbers == Numbers::bf16) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, from, sizeof bits);
        const float value = float_of(Numbers::bf16, bits);
        std::memcpy(to, &value, sizeof value);
      } else {
        std::memcpy(to, from, size);
      }
    }
    if (m.numbers == Numbers::int8) {
      found.scales.push_back(m.scales[static_cast<std::size_t>(row)]);
      found.sums.push_back(m.sums[static_cast<std::size_t>(row)]);
    }
  }
  return found;
}

}  // namespace fte
