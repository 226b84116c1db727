#include "products.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace fte {
namespace {

constexpr float kLevels = 127.0F;  // largest magnitude used, so that the range is symmetric
constexpr int kZero = 128;         // the activations' zero

int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// What a group of values is divided by; 1 where all are zero.
float scale_of(const float* values, int count) {
  float largest = 0.0F;
  for (int i = 0; i < count; ++i) largest = std::max(largest, std::fabs(values[i]));
  return largest == 0.0F ? 1.0F : largest / kLevels;
}

detail::BlockSums block_sums_for(Instructions instructions) {
#if defined(__x86_64__)
  if (instructions == Instructions::avx512vnni) return detail::block_sums_avx512vnni;
  if (instructions == Instructions::avx2) return detail::block_sums_avx2;
#endif
  (void)instructions;
  return detail::block_sums_portable;
}

}  // namespace

Int8Matrix quantize_rows(const float* weights, int rows, int columns) {
  assert(rows > 0 && columns > 0);
  Int8Matrix matrix;
  matrix.rows = rows;
  matrix.columns = columns;
  matrix.stride = round_up(columns, kLane);
  const auto stored = static_cast<std::size_t>(round_up(rows, kRowBlock));
  matrix.values.assign(stored * static_cast<std::size_t>(matrix.stride), 0);
  matrix.scales.assign(stored, 0.0F);
  matrix.sums.assign(stored, 0);
  for (int row = 0; row < rows; ++row) {
    const auto r = static_cast<std::size_t>(row);
    const float* source = weights + r * static_cast<std::size_t>(columns);
    std::int8_t* target = matrix.values.data() + r * static_cast<std::size_t>(matrix.stride);
    const float scale = scale_of(source, columns);
    std::int32_t sum = 0;
    for (int i = 0; i < columns; ++i) {
      target[i] = static_cast<std::int8_t>(std::nearbyint(source[i] / scale));
      sum += target[i];
    }
    matrix.scales[r] = scale;
    matrix.sums[r] = kZero * sum;
  }
  return matrix;
}

Int8Vectors make_vectors(int batch, int columns) {
  assert(batch > 0 && batch <= kMostBatch && columns > 0);
  Int8Vectors vectors;
  vectors.batch = batch;
  vectors.stride = round_up(columns, kLane);
  vectors.values.assign(static_cast<std::size_t>(batch) * static_cast<std::size_t>(vectors.stride), kZero);
  vectors.scales.assign(static_cast<std::size_t>(batch), 1.0F);
  return vectors;
}

void quantize_vector(const float* values, int columns, int index, Int8Vectors& vectors) {
  assert(index >= 0 && index < vectors.batch && columns <= vectors.stride);
  const auto i = static_cast<std::size_t>(index);
  const float scale = scale_of(values, columns);
  std::uint8_t* target = vectors.values.data() + i * static_cast<std::size_t>(vectors.stride);
  for (int k = 0; k < columns; ++k) {
    target[k] = static_cast<std::uint8_t>(static_cast<int>(std::nearbyint(values[k] / scale)) + kZero);
  }
  vectors.scales[i] = scale;
}

void multiply(const Int8Matrix& weights, const Int8Vectors& vectors, int first, int last, float* out,
              Instructions instructions) {
  assert(first % kRowBlock == 0 && (last % kRowBlock == 0 || last == weights.rows) && last <= weights.rows);
  assert(vectors.stride == weights.stride);
  const detail::BlockSums block_sums = block_sums_for(instructions);
  const auto stride = static_cast<std::size_t>(weights.stride);
  std::int32_t sums[detail::kVectorBlock][kRowBlock];
  for (int row = first; row < last; row += kRowBlock) {
    const std::int8_t* block = weights.values.data() + static_cast<std::size_t>(row) * stride;
    const int rows = std::min(kRowBlock, last - row);
    for (int start = 0; start < vectors.batch; start += detail::kVectorBlock) {
      const int count = std::min(detail::kVectorBlock, vectors.batch - start);
      block_sums(block, vectors.values.data() + static_cast<std::size_t>(start) * stride, weights.stride, count, sums);
      for (int b = 0; b < count; ++b) {
        const auto vector = static_cast<std::size_t>(start + b);
        float* target = out + vector * static_cast<std::size_t>(weights.rows) + row;
        for (int i = 0; i < rows; ++i) {
          const auto r = static_cast<std::size_t>(row + i);
          target[i] = static_cast<float>(sums[b][i] - weights.sums[r]) * (weights.scales[r] * vectors.scales[vector]);
        }
      }
    }
  }
}

void detail::block_sums_portable(const std::int8_t* rows, const std::uint8_t* vectors, int stride, int count,
                                 std::int32_t (*sums)[kRowBlock]) {
  for (int b = 0; b < count; ++b) {
    const std::uint8_t* vector = vectors + static_cast<std::ptrdiff_t>(b) * stride;
    for (int row = 0; row < kRowBlock; ++row) {
      const std::int8_t* weights = rows + static_cast<std::ptrdiff_t>(row) * stride;
      std::int32_t sum = 0;
      for (int i = 0; i < stride; ++i) sum += static_cast<std::int32_t>(vector[i]) * weights[i];
      sums[b][row] = sum;
    }
  }
}

}  // namespace fte
