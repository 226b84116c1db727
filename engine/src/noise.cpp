#include "noise.h"

#include <cmath>

namespace fte {
namespace {

struct Words {
  std::uint64_t word[4];
};

// The upper and lower half of a 128-bit product.
void multiply(std::uint64_t a, std::uint64_t b, std::uint64_t* high, std::uint64_t* low) {
  const std::uint64_t mask = 0xffffffff, a0 = a & mask, a1 = a >> 32, b0 = b & mask, b1 = b >> 32;
  const std::uint64_t low_low = a0 * b0, middle = a1 * b0 + (low_low >> 32), other = a0 * b1 + (middle & mask);
  *high = a1 * b1 + (middle >> 32) + (other >> 32);
  *low = (other << 32) | (low_low & mask);
}

// Philox4x64-10 (Salmon, Moraes, Dror and Shaw 2011).
Words philox(Words counter, std::uint64_t key0, std::uint64_t key1) {
  for (int round = 0; round < 10; ++round) {
    std::uint64_t high0, low0, high1, low1;
    multiply(0xd2e7470ee14c6c93, counter.word[0], &high0, &low0);
    multiply(0xca5a826395121157, counter.word[2], &high1, &low1);
    counter = {{high1 ^ counter.word[1] ^ key0, low1, high0 ^ counter.word[3] ^ key1, low0}};
    key0 += 0x9e3779b97f4a7c15;
    key1 += 0xbb67ae8584caa73b;
  }
  return counter;
}

// Two normals of two words, by Box and Muller.
void normals(std::uint64_t u, std::uint64_t v, float* first, float* second) {
  constexpr double kUnit = 1.0 / 9007199254740992.0;  // 2^-53
  const double radius = std::sqrt(-2.0 * std::log((static_cast<double>(u >> 11) + 1.0) * kUnit));
  const double angle = static_cast<double>(v >> 11) * (2.0 * 3.14159265358979323846 * kUnit);
  *first = static_cast<float>(radius * std::cos(angle));
  *second = static_cast<float>(radius * std::sin(angle));
}

}  // namespace

void normal_row(std::uint64_t seed, std::uint64_t request, NoiseStream stream, std::uint64_t row, int width,
                float* out) {
  for (int place = 0; place < width; place += 4) {
    const Words words =
        philox({{static_cast<std::uint64_t>(place / 4), row, static_cast<std::uint64_t>(stream), 0}}, seed, request);
    float found[4];
    normals(words.word[0], words.word[1], &found[0], &found[1]);
    normals(words.word[2], words.word[3], &found[2], &found[3]);
    for (int i = 0; i < 4 && place + i < width; ++i) out[place + i] = found[i];
  }
}

}  // namespace fte
