// Weights as a GPU reads them: unpacking gives back what was packed.
#include "../cuda/layout.h"

#include <cstring>
#include <random>
#include <vector>

#include "check.h"

namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

void check(fte::Numbers numbers, int rows, int columns) {
  std::mt19937 generator(1);
  const std::size_t size = fte::size_of(numbers);
  std::vector<std::uint8_t> weights(at(rows) * at(columns) * size);
  for (std::uint8_t& byte : weights) byte = static_cast<std::uint8_t>(generator() & 0x3f);  // no number is not one
  std::vector<float> scales;
  for (int row = 0; row < rows; ++row) scales.push_back(static_cast<float>(row + 1));
  const fte::Rows found = fte::unpack(fte::pack(numbers, weights.data(), rows, columns, scales.data()));
  const std::size_t wide = fte::size_of(found.numbers);
  CHECK(found.rows == rows && found.columns == columns);
  CHECK(found.stride % fte::kRowMultiple == 0 && found.stride >= columns && found.stride < columns + fte::kRowMultiple);
  CHECK(found.values.size() == at(rows) * at(found.stride) * wide);
  for (int row = 0; row < rows; ++row) {
    int sum = 0;
    for (int k = 0; k < found.stride; ++k) {
      const std::uint8_t* value = found.values.data() + (at(row) * at(found.stride) + at(k)) * wide;
      std::uint8_t expected[4] = {};
      if (k < columns) {
        const std::uint8_t* from = weights.data() + (at(row) * at(columns) + at(k)) * size;
        std::memcpy(numbers == fte::Numbers::bf16 ? expected + 2 : expected, from, size);
        sum += static_cast<std::int8_t>(*from);
      }
      CHECK(std::memcmp(value, expected, wide) == 0);
    }
    if (numbers != fte::Numbers::int8) continue;
    CHECK(found.scales[at(row)] == scales[at(row)]);
    CHECK(found.sums[at(row)] == sum);
  }
}

}  // namespace

int main() {
  for (fte::Numbers numbers : {fte::Numbers::fp32, fte::Numbers::fp16, fte::Numbers::bf16, fte::Numbers::int8}) {
    for (int rows : {1, 16, 40}) {
      for (int columns : {1, 16, 37}) check(numbers, rows, columns);
    }
  }
  return 0;
}
