// What the machine allows: how fast its cores together read a buffer, and how fast they multiply and add. Measured with
// the best instructions at hand, whichever kernels are held against them.
#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "buffer.h"
#include "cpu.h"
#include "team.h"

namespace ceiling {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The shortest of several runs, after one that warms up.
inline double best_seconds(const std::function<void()>& work, int trials = 7) {
  work();
  double best = 1e9;
  for (int trial = 0; trial < trials; ++trial) {
    const double start = seconds_now();
    work();
    best = std::min(best, seconds_now() - start);
  }
  return best;
}

#if defined(__x86_64__)

__attribute__((target("avx2"))) inline long long read_avx2(const std::uint8_t* from, std::size_t bytes) {
  __m256i sums[8] = {};
  for (std::size_t i = 0; i + 256 <= bytes; i += 256) {
    for (std::size_t u = 0; u < 8; ++u) {
      sums[u] = _mm256_xor_si256(sums[u], _mm256_load_si256(reinterpret_cast<const __m256i*>(from + i + 32 * u)));
    }
  }
  for (int u = 1; u < 8; ++u) sums[0] = _mm256_xor_si256(sums[0], sums[u]);
  return _mm256_extract_epi64(sums[0], 0) ^ _mm256_extract_epi64(sums[0], 3);
}

__attribute__((target("avx512f"))) inline long long read_avx512(const std::uint8_t* from, std::size_t bytes) {
  __m512i sums[8] = {};
  for (std::size_t i = 0; i + 512 <= bytes; i += 512) {
    for (std::size_t u = 0; u < 8; ++u) sums[u] = _mm512_xor_si512(sums[u], _mm512_load_si512(from + i + 64 * u));
  }
  for (int u = 1; u < 8; ++u) sums[0] = _mm512_xor_si512(sums[0], sums[u]);
  return _mm512_reduce_or_epi64(sums[0]);
}

// As many sums as keep the unit busy; nothing is read. Multiply-adds done.
__attribute__((target("avx2,fma"))) inline double multiply_fp32_avx2(int steps, float* keep) {
  __m256 sums[10];  // each another, or one would do for all
  for (int u = 0; u < 10; ++u) sums[u] = _mm256_set1_ps(static_cast<float>(u));
  const __m256 a = _mm256_set1_ps(*keep), b = _mm256_set1_ps(0.5F);
  for (int i = 0; i < steps; ++i) {
    for (__m256& sum : sums) sum = _mm256_fmadd_ps(a, b, sum);
  }
  for (__m256& sum : sums) *keep += _mm256_cvtss_f32(sum);
  return 10.0 * 8 * steps;
}
__attribute__((target("avx2"))) inline double multiply_int8_avx2(int steps, float* keep) {
  __m256i sums[10];
  for (int u = 0; u < 10; ++u) sums[u] = _mm256_set1_epi32(u);
  const __m256i a = _mm256_set1_epi32(static_cast<int>(*keep)), b = _mm256_set1_epi16(3);
  for (int i = 0; i < steps; ++i) {  // bytes as 16 bits: products of two bytes do not fit 16 bits with one more
    for (__m256i& sum : sums) sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_xor_si256(a, sum), b));
  }
  for (__m256i& sum : sums) *keep += static_cast<float>(_mm256_extract_epi32(sum, 0));
  return 10.0 * 16 * steps;
}
__attribute__((target("avx512f"))) inline double multiply_fp32_avx512(int steps, float* keep) {
  __m512 sums[16];
  for (int u = 0; u < 16; ++u) sums[u] = _mm512_set1_ps(static_cast<float>(u));
  const __m512 a = _mm512_set1_ps(*keep), b = _mm512_set1_ps(0.5F);
  for (int i = 0; i < steps; ++i) {
    for (__m512& sum : sums) sum = _mm512_fmadd_ps(a, b, sum);
  }
  for (__m512& sum : sums) *keep += _mm512_cvtss_f32(sum);
  return 16.0 * 16 * steps;
}
__attribute__((target("avx512f,avx512vnni"))) inline double multiply_int8_avx512(int steps, float* keep) {
  __m512i sums[16];
  for (int u = 0; u < 16; ++u) sums[u] = _mm512_set1_epi32(u);
  const __m512i a = _mm512_set1_epi32(static_cast<int>(*keep)), b = _mm512_set1_epi32(0x01020304);
  for (int i = 0; i < steps; ++i) {
    for (__m512i& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
  }
  for (__m512i& sum : sums) *keep += static_cast<float>(_mm512_cvtsi512_si32(sum));
  return 16.0 * 64 * steps;
}

#endif

inline long long read(const std::uint8_t* from, std::size_t bytes) {
#if defined(__x86_64__)
  if (fte::has(fte::Instructions::avx512vnni)) return read_avx512(from, bytes);
  if (fte::has(fte::Instructions::avx2)) return read_avx2(from, bytes);
#endif
  long long sum = 0;
  for (std::size_t i = 0; i < bytes / sizeof sum; ++i) sum ^= reinterpret_cast<const long long*>(from)[i];
  return sum;
}

inline double multiply([[maybe_unused]] bool int8, int steps, float* keep) {
#if defined(__x86_64__)
  if (fte::has(fte::Instructions::avx512vnni)) {
    return int8 ? multiply_int8_avx512(steps, keep) : multiply_fp32_avx512(steps, keep);
  }
  if (fte::has(fte::Instructions::avx2)) {
    return int8 ? multiply_int8_avx2(steps, keep) : multiply_fp32_avx2(steps, keep);
  }
#endif
  float sums[16];
  for (int u = 0; u < 16; ++u) sums[u] = static_cast<float>(u);
  const float a = *keep;
  for (int i = 0; i < steps; ++i) {
    for (float& sum : sums) sum = sum * a + 0.5F;
  }
  for (float sum : sums) *keep += sum;
  return 16.0 * steps;
}

// GB/s at which all workers together read `bytes` again and again, each its own part.
inline double read_rate(fte::Team& team, std::size_t bytes) {
  const fte::Buffer<std::uint8_t> buffer(bytes);
  const std::size_t workers = static_cast<std::size_t>(team.workers()), part = bytes / workers / 512 * 512;
  const int passes = static_cast<int>(std::max<std::size_t>(1, (std::size_t{1} << 30) / bytes));
  fte::Buffer<long long> sums(8 * workers);
  const double seconds = best_seconds([&] {
    team.run([&](int worker, fte::Barrier&) {
      const auto w = static_cast<std::size_t>(worker);
      for (int pass = 0; pass < passes; ++pass) sums[8 * w] ^= read(buffer.data() + w * part, part) + pass;
    });
  });
  return static_cast<double>(part * workers) * passes / seconds / 1e9;
}

// 1e9 multiply-adds a second of all workers together, from registers.
inline double multiply_rate(fte::Team& team, bool int8) {
  constexpr int kSteps = 1 << 22;
  fte::Buffer<float> keep(16 * static_cast<std::size_t>(team.workers()));
  double done = 0.0;
  const double seconds = best_seconds([&] {
    team.run([&](int worker, fte::Barrier&) {
      const double own = multiply(int8, kSteps, &keep[16 * static_cast<std::size_t>(worker)]);
      if (worker == 0) done = own;
    });
  });
  return done * team.workers() / seconds / 1e9;
}

}  // namespace ceiling
