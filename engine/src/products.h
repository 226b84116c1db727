// Products of a weight matrix with a few vectors, which read every weight once: what decoding a frame is made of.
//
// Weights are int8 with one scale a row (symmetric, -127 to 127), activations uint8 with one scale a vector and 128 for
// zero. Sums are exact in int32, so every instruction set gives the same integers, and the same floats after them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "cpu.h"

namespace fte {

constexpr int kLane = 64;       // columns are padded to a multiple of this
constexpr int kRowBlock = 4;    // rows are computed in blocks of this many
constexpr int kMostBatch = 16;  // vectors in one product

// A weight matrix (rows, columns), quantized by rows.
struct Int8Matrix {
  int rows = 0;
  int columns = 0;
  int stride = 0;                   // columns rounded up to kLane
  std::vector<std::int8_t> values;  // (rows rounded up to kRowBlock, stride), zeros in the padding
  std::vector<float> scales;        // (rows rounded up)
  std::vector<std::int32_t> sums;   // of each row's values, times 128: what the activations' zero adds

  std::size_t bytes() const {
    return values.size() + scales.size() * sizeof(float) + sums.size() * sizeof(std::int32_t);
  }
};

// Vectors (batch, columns), quantized each by itself, so that none depends on the others.
struct Int8Vectors {
  int batch = 0;
  int stride = 0;
  std::vector<std::uint8_t> values;  // (batch, stride), 128 in the padding
  std::vector<float> scales;         // (batch)
};

// weights (rows, columns), row after row.
Int8Matrix quantize_rows(const float* weights, int rows, int columns);

// Make room for `batch` vectors of `columns` values.
Int8Vectors make_vectors(int batch, int columns);

// Quantize values (columns) as vector `index`.
void quantize_vector(const float* values, int columns, int index, Int8Vectors& vectors);

// out (batch, rows) = vectors times weights, for rows first to last (multiples of kRowBlock, or the end).
void multiply(const Int8Matrix& weights, const Int8Vectors& vectors, int first, int last, float* out,
              Instructions instructions);

namespace detail {

constexpr int kVectorBlock = 4;  // vectors that a kernel takes at once, so that weights are loaded once for all of them

// Exact sums of kRowBlock rows with `count` vectors (1 to kVectorBlock): sums[vector][row]. All have `stride` columns.
using BlockSums = void (*)(const std::int8_t* rows, const std::uint8_t* vectors, int stride, int count,
                           std::int32_t (*sums)[kRowBlock]);

void block_sums_portable(const std::int8_t* rows, const std::uint8_t* vectors, int stride, int count,
                         std::int32_t (*sums)[kRowBlock]);
void block_sums_avx2(const std::int8_t* rows, const std::uint8_t* vectors, int stride, int count,
                     std::int32_t (*sums)[kRowBlock]);
void block_sums_avx512vnni(const std::int8_t* rows, const std::uint8_t* vectors, int stride, int count,
                           std::int32_t (*sums)[kRowBlock]);

}  // namespace detail
}  // namespace fte
