// Weight matrices as the CPU's kernels read them: in tiles of 16 rows, whose columns follow each other, so that a tile
// is read once from beginning to end and its 16 sums lie side by side.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "buffer.h"

namespace fte {

enum class Numbers { fp32, fp16, bf16, int8 };

constexpr int kTile = 16;  // rows

// Bytes of one number.
FTE_EVERYWHERE std::size_t size_of(Numbers numbers) {
  return numbers == Numbers::fp32 ? 4 : numbers == Numbers::int8 ? 1 : 2;
}

FTE_EVERYWHERE int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Weights (rows, columns). Floats: [tile][column][16 rows]; int8: [tile][column / 4][16 rows][4 columns], with a scale
// a row. Rows and columns that were added to fill tiles are zeros.
struct Matrix {
  Numbers numbers = Numbers::fp32;
  int rows = 0;
  int columns = 0;  // of a vector that it multiplies
  int depth = 0;    // columns rounded up to 4
  Buffer<std::uint8_t> values;
  Buffer<float> scales;       // int8: (rows rounded up)
  Buffer<std::int32_t> sums;  // int8: of each row's weights

  FTE_EVERYWHERE int tiles() const { return (rows + kTile - 1) / kTile; }
  FTE_EVERYWHERE std::size_t tile_bytes() const {
    return static_cast<std::size_t>(kTile) * static_cast<std::size_t>(depth) * size_of(numbers);
  }
  FTE_EVERYWHERE const std::uint8_t* tile(int index) const {
    return values.data() + static_cast<std::size_t>(index) * tile_bytes();
  }
  std::size_t bytes() const { return values.size() + scales.size() * sizeof(float) + sums.size() * sizeof(float); }
};

// Pack weights (rows, columns), row after row, of the given numbers; scales (rows) for int8. `order` (rows), where
// given, says which row of the weights becomes row i.
Matrix pack(Numbers numbers, const void* weights, int rows, int columns, const float* scales = nullptr,
            const std::vector<int>* order = nullptr);

// fp32 weights quantized by rows (symmetric, -127 to 127) and packed.
Matrix pack_quantized(const float* weights, int rows, int columns);

// fp16 or bf16 bits as a float.
float float_of(Numbers numbers, std::uint16_t bits);

}  // namespace fte
