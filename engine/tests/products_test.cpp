// Every instruction set computes what the definition says, at sizes that fill their lanes and at those that do not.
#include "products.h"

#include <cmath>
#include <random>
#include <vector>

#include "check.h"

namespace {

using fte::Instructions;

std::vector<float> random_values(int count, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

// The product of the quantized numbers, in double: what the kernels must give but for the last bits of a float.
std::vector<double> expected(const fte::Int8Matrix& m, const fte::Int8Vectors& v) {
  std::vector<double> out;
  for (int b = 0; b < v.batch; ++b) {
    for (int row = 0; row < m.rows; ++row) {
      double sum = 0;
      for (int k = 0; k < m.columns; ++k) {
        const int x = v.values[static_cast<std::size_t>(b * v.stride + k)] - 128;
        sum += x * m.values[static_cast<std::size_t>(row * m.stride + k)];
      }
      out.push_back(sum * m.scales[static_cast<std::size_t>(row)] * v.scales[static_cast<std::size_t>(b)]);
    }
  }
  return out;
}

std::vector<float> product(const fte::Int8Matrix& m, const fte::Int8Vectors& v, Instructions instructions) {
  std::vector<float> out(static_cast<std::size_t>(v.batch * m.rows), NAN);
  const int middle = m.rows / 2 / fte::kRowBlock * fte::kRowBlock;
  fte::multiply(m, v, 0, middle, out.data(), instructions);  // two workers' parts
  fte::multiply(m, v, middle, m.rows, out.data(), instructions);
  return out;
}

void check_size(int rows, int columns, int batch) {
  const std::vector<float> weights = random_values(rows * columns, 1);
  const fte::Int8Matrix m = fte::quantize_rows(weights.data(), rows, columns);
  fte::Int8Vectors v = fte::make_vectors(batch, columns);
  double signal = 0;
  double noise = 0;
  for (int b = 0; b < batch; ++b) {
    fte::quantize_vector(random_values(columns, 100U + static_cast<unsigned>(b)).data(), columns, b, v);
  }
  const std::vector<double> wanted = expected(m, v);
  const std::vector<float> first = product(m, v, Instructions::portable);
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    CHECK(std::fabs(first[i] - wanted[i]) <= 1e-6 * (1 + std::fabs(wanted[i])));
  }
  for (Instructions each : {Instructions::avx2, Instructions::avx512vnni}) {
    if (fte::has(each)) CHECK(product(m, v, each) == first);  // to the bit
  }
  for (int b = 0; b < batch; ++b) {  // and near the product of the numbers that were quantized
    const std::vector<float> x = random_values(columns, 100U + static_cast<unsigned>(b));
    for (int row = 0; row < rows; ++row) {
      double exact = 0;
      for (int k = 0; k < columns; ++k) {
        exact +=
            static_cast<double>(weights[static_cast<std::size_t>(row * columns + k)]) * x[static_cast<std::size_t>(k)];
      }
      signal += exact * exact;
      noise += std::pow(first[static_cast<std::size_t>(b * rows + row)] - exact, 2);
    }
  }
  // over few sums the ratio is chance; both operands have 42 dB, so their product 39
  CHECK(rows * batch < 64 || columns < 64 || 10 * std::log10(signal / noise) > 36);
}

void a_vector_does_not_depend_on_its_batch() {
  const fte::Int8Matrix m = fte::quantize_rows(random_values(12 * 100, 1).data(), 12, 100);
  fte::Int8Vectors alone = fte::make_vectors(1, 100);
  fte::Int8Vectors both = fte::make_vectors(2, 100);
  const std::vector<float> x = random_values(100, 2);
  const std::vector<float> loud(100, 1000.0F);
  fte::quantize_vector(x.data(), 100, 0, alone);
  fte::quantize_vector(loud.data(), 100, 0, both);
  fte::quantize_vector(x.data(), 100, 1, both);
  const std::vector<float> a = product(m, alone, fte::best_instructions());
  const std::vector<float> b = product(m, both, fte::best_instructions());
  for (std::size_t i = 0; i < a.size(); ++i) CHECK(a[i] == b[12 + i]);
}

void extremes_do_not_overflow() {
  const int columns = 4096;
  const std::vector<float> ones(static_cast<std::size_t>(columns), 1.0F);
  const fte::Int8Matrix m = fte::quantize_rows(ones.data(), 1, columns);
  for (float sign : {1.0F, -1.0F}) {
    fte::Int8Vectors v = fte::make_vectors(1, columns);
    const std::vector<float> x(static_cast<std::size_t>(columns), sign);
    fte::quantize_vector(x.data(), columns, 0, v);
    for (Instructions each : {Instructions::portable, Instructions::avx2, Instructions::avx512vnni}) {
      if (fte::has(each)) CHECK(std::fabs(product(m, v, each)[0] - sign * columns) < 1e-2);
    }
  }
}

void zeros_stay_zeros() {
  const std::vector<float> nothing(200, 0.0F);
  const fte::Int8Matrix m = fte::quantize_rows(nothing.data(), 2, 100);
  fte::Int8Vectors v = fte::make_vectors(1, 100);
  fte::quantize_vector(nothing.data(), 100, 0, v);
  for (float value : product(m, v, fte::best_instructions())) CHECK(value == 0.0F);
}

}  // namespace

int main() {
  for (int rows : {1, 4, 7, 64, 160}) {
    for (int columns : {1, 63, 64, 65, 1104}) {
      for (int batch : {1, 3, fte::kMostBatch}) check_size(rows, columns, batch);
    }
  }
  a_vector_does_not_depend_on_its_batch();
  extremes_do_not_overflow();
  zeros_stay_zeros();
  std::printf("products: ok, best here is %s\n", fte::name_of(fte::best_instructions()));
  return 0;
}
