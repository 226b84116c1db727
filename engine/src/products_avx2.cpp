#include "products.h"

#if defined(__AVX2__)
#include <immintrin.h>

namespace fte {
namespace {

int sum_of(__m256i values) {
  __m128i half = _mm_add_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, _MM_SHUFFLE(1, 0, 3, 2)));
  half = _mm_add_epi32(half, _mm_shuffle_epi32(half, _MM_SHUFFLE(2, 3, 0, 1)));
  return _mm_cvtsi128_si32(half);
}

__m256i load(const std::int8_t* bytes) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}

__m256i load(const std::uint8_t* bytes) {
  return _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes)));
}

// Products of bytes as products of 16-bit numbers: the instruction for bytes saturates, and these sums are exact.
template <int kVectors>
void sums_with(const std::int8_t* rows, const std::uint8_t* vectors, int stride, std::int32_t (*sums)[kRowBlock]) {
  __m256i totals[kVectors][kRowBlock];
  for (auto& of_vector : totals) {
    for (__m256i& total : of_vector) total = _mm256_setzero_si256();
  }
  for (int i = 0; i < stride; i += 16) {
    __m256i x[kVectors];
    for (int b = 0; b < kVectors; ++b) x[b] = load(vectors + static_cast<std::ptrdiff_t>(b) * stride + i);
    for (int row = 0; row < kRowBlock; ++row) {
      const __m256i w = load(rows + static_cast<std::ptrdiff_t>(row) * stride + i);
      for (int b = 0; b < kVectors; ++b) {
        totals[b][row] = _mm256_add_epi32(totals[b][row], _mm256_madd_epi16(x[b], w));
      }
    }
  }
  for (int b = 0; b < kVectors; ++b) {
    for (int row = 0; row < kRowBlock; ++row) sums[b][row] = sum_of(totals[b][row]);
  }
}

}  // namespace

// Two vectors at a time: their sums and operands fill the sixteen registers.
void detail::block_sums_avx2(const std::int8_t* rows, const std::uint8_t* vectors, int stride, int count,
                             std::int32_t (*sums)[kRowBlock]) {
  int b = 0;
  for (; b + 2 <= count; b += 2)
    sums_with<2>(rows, vectors + static_cast<std::ptrdiff_t>(b) * stride, stride, sums + b);
  if (b < count) sums_with<1>(rows, vectors + static_cast<std::ptrdiff_t>(b) * stride, stride, sums + b);
}

}  // namespace fte
#endif
