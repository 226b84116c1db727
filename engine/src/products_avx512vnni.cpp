#include "products.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>

namespace fte {
namespace {

template <int kVectors>
void sums_with(const std::int8_t* rows, const std::uint8_t* vectors, int stride, std::int32_t (*sums)[kRowBlock]) {
  __m512i totals[kVectors][kRowBlock];
  for (auto& of_vector : totals) {
    for (__m512i& total : of_vector) total = _mm512_setzero_si512();
  }
  for (int i = 0; i < stride; i += kLane) {
    __m512i x[kVectors];
    for (int b = 0; b < kVectors; ++b) x[b] = _mm512_loadu_si512(vectors + static_cast<std::ptrdiff_t>(b) * stride + i);
    for (int row = 0; row < kRowBlock; ++row) {
      const __m512i w = _mm512_loadu_si512(rows + static_cast<std::ptrdiff_t>(row) * stride + i);
      for (int b = 0; b < kVectors; ++b) totals[b][row] = _mm512_dpbusd_epi32(totals[b][row], x[b], w);
    }
  }
  for (int b = 0; b < kVectors; ++b) {
    for (int row = 0; row < kRowBlock; ++row) sums[b][row] = _mm512_reduce_add_epi32(totals[b][row]);
  }
}

}  // namespace

void detail::block_sums_avx512vnni(const std::int8_t* rows, const std::uint8_t* vectors, int stride, int count,
                                   std::int32_t (*sums)[kRowBlock]) {
  switch (count) {
    case 1:
      return sums_with<1>(rows, vectors, stride, sums);
    case 2:
      return sums_with<2>(rows, vectors, stride, sums);
    case 3:
      return sums_with<3>(rows, vectors, stride, sums);
    default:
      return sums_with<4>(rows, vectors, stride, sums);
  }
}

}  // namespace fte
#endif
