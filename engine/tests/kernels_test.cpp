// Each product beside its plain reference, at sizes that fill tiles and sizes that do not, for all instructions at
// hand.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "decoder.h"
#include "noise.h"
#include "reference.h"
#include "tensors.h"

namespace {

const fte::Instructions kAll[] = {fte::Instructions::portable, fte::Instructions::avx2, fte::Instructions::avx512vnni};

std::size_t at(int i) { return static_cast<std::size_t>(i); }

std::uint16_t bf16_of(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>(bits >> 16);
}

// Exact for numbers that an fp16 can hold.
std::uint16_t fp16_of(float value) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    if (fte::float_of(fte::Numbers::fp16, static_cast<std::uint16_t>(bits)) == value)
      return static_cast<std::uint16_t>(bits);
  }
  return 0x7e00;
}

void halves_are_read_as_floats() {
  CHECK(fte::float_of(fte::Numbers::fp16, 0x3c00) == 1.0F);
  CHECK(fte::float_of(fte::Numbers::fp16, 0xc000) == -2.0F);
  CHECK(fte::float_of(fte::Numbers::fp16, 0x0001) == std::ldexp(1.0F, -24));
  CHECK(fte::float_of(fte::Numbers::fp16, 0x7bff) == 65504.0F);
  CHECK(std::isinf(fte::float_of(fte::Numbers::fp16, 0x7c00)));
  CHECK(std::isnan(fte::float_of(fte::Numbers::fp16, 0x7e01)));
  CHECK(fte::float_of(fte::Numbers::bf16, 0xbf80) == -1.0F);
}

// Weights that every kind of number can hold, so that only sums differ, and by little.
void products_are_those_of_the_reference(fte::Instructions instructions) {
  const fte::Kernels& kernels = fte::kernels_for(instructions);
  std::mt19937 generator(1);
  const float kValues[] = {-1.5F, -1.0F, -0.5F, -0.25F, 0.0F, 0.25F, 0.5F, 1.0F, 1.5F};
  std::vector<std::uint16_t> fp16s;
  for (float value : kValues) fp16s.push_back(fp16_of(value));
  for (int rows : {1, 16, 40, 63}) {
    for (int columns : {1, 5, 24, 129}) {
      reference::Weights w = reference::random_weights(generator, rows, columns, 1.0F);
      std::vector<std::uint16_t> fp16(w.values.size()), bf16(w.values.size());
      for (std::size_t i = 0; i < w.values.size(); ++i) {
        const std::size_t which = generator() % 9;
        w.values[i] = kValues[which];
        fp16[i] = fp16s[which];
        bf16[i] = bf16_of(w.values[i]);
      }
      const int count = 15;
      const reference::Weights x = reference::random_weights(generator, count, columns, 2.0F);
      const struct {
        fte::Numbers numbers;
        const void* weights;
      } kKinds[] = {
          {fte::Numbers::fp32, w.values.data()}, {fte::Numbers::fp16, fp16.data()}, {fte::Numbers::bf16, bf16.data()}};
      for (const auto& kind : kKinds) {
        const fte::Matrix m = fte::pack(kind.numbers, kind.weights, rows, columns);
        const int stride = m.tiles() * fte::kTile;
        std::vector<float> out(at(count) * at(stride), 1.0F), alone(at(stride));
        kernels.multiply(m, x.values.data(), columns, count, 0, m.tiles(), out.data(), stride, true);
        for (int v = 0; v < count; ++v) {
          const float* row = x.values.data() + at(v) * at(columns);
          const reference::Values expected = reference::product(w, {row, row + columns});
          for (int i = 0; i < rows; ++i) CHECK(std::fabs(out[at(v * stride + i)] - 1.0 - expected[at(i)]) < 1e-4);
          std::fill(alone.begin(), alone.end(), 1.0F);
          kernels.multiply(m, row, columns, 1, 0, m.tiles(), alone.data(), stride, true);
          CHECK(std::equal(alone.begin(), alone.begin() + rows, out.begin() + v * stride));  // to the last bit
        }
      }
    }
  }
}

void rows_are_quantized_to_the_nearest_level(fte::Instructions instructions) {
  const fte::Kernels& kernels = fte::kernels_for(instructions);
  std::mt19937 generator(2);
  for (int width : {1, 15, 16, 40}) {
    const reference::Weights x = reference::random_weights(generator, 3, width, 5.0F);
    std::vector<std::uint8_t> bytes(at(3 * 48), 77);
    float scales[3];
    kernels.quantize_rows(x.values.data(), width, 3, width, bytes.data(), 48, scales);
    for (int row = 0; row < 3; ++row) {
      for (int k = 0; k < width; ++k) {
        const double level = bytes[at(row * 48 + k)] - 128.0;
        CHECK(std::fabs(level * scales[row] - x.at(row, k)) <= 0.501 * scales[row]);
      }
      if (width < 48) CHECK(bytes[at(row * 48 + width)] == 77);
    }
  }
  const float zeros[4] = {};
  std::uint8_t bytes[4];
  float scale = 0;
  kernels.quantize_rows(zeros, 4, 1, 4, bytes, 4, &scale);
  CHECK(bytes[0] == 128 && scale == 1.0F);
}

void cells_are_those_of_the_reference(fte::Instructions instructions) {
  std::mt19937 generator(3);
  for (int units : {1, 16, 37}) {
    const reference::Weights sums = reference::random_weights(generator, units, 4, 12.0F);
    const reference::Weights before = reference::random_weights(generator, 1, units, 3.0F);
    std::vector<float> cell = before.values, hidden(at(units));
    fte::kernels_for(instructions).lstm_cells(sums.values.data(), cell.data(), hidden.data(), units);
    for (int u = 0; u < units; ++u) {
      reference::Values c = {before.at(0, u)}, h(1);
      reference::cell({sums.at(u, 0), sums.at(u, 1), sums.at(u, 2), sums.at(u, 3)}, c, h);
      CHECK(std::fabs(cell[at(u)] - c[0]) < 2e-6);
      CHECK(std::fabs(hidden[at(u)] - h[0]) < 2e-6);
    }
  }
}

// Drawn by fte.noise in Python.
void noise_is_that_of_python() {
  const float kExpected[5] = {-0.299755156F, -0.530071616F, -1.64496791F, 0.902366519F, 0.317483097F};
  float found[5];
  fte::normal_row(7, 3, fte::NoiseStream::vocoder, 11, 5, found);
  for (int i = 0; i < 5; ++i) CHECK(std::fabs(found[i] - kExpected[i]) <= 2e-7);
}

}  // namespace

int main() {
  halves_are_read_as_floats();
  noise_is_that_of_python();
  for (fte::Instructions each : kAll) {
    if (!fte::has(each)) continue;
    products_are_those_of_the_reference(each);
    rows_are_quantized_to_the_nearest_level(each);
    cells_are_those_of_the_reference(each);
  }
  return 0;
}
