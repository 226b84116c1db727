// The kernels of one set of instructions; a file that is built for them names them and includes this.
//
// Nothing here may be shared with another such file: everything lies in an unnamed namespace and no inline function of
// the standard library is called, as the linker would keep one copy of it, with instructions that another CPU lacks.
#pragma once

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "flow_step.h"
#include "kernels.h"
#include "simd.h"  // before all that uses its overloads

namespace fte {
namespace {

// Vectors for which a tile of weights is read once, as many as there are registers for.
#if defined(__AVX512F__)
constexpr int kVectors = 12;
constexpr int kPairs = 8;  // of digits
#elif defined(__AVX2__)
constexpr int kVectors = 3;
constexpr int kPairs = 1;
#else
constexpr int kVectors = 1;
constexpr int kPairs = 1;
#endif

constexpr float kDigitLevels = 32767.0F;  // of an activation in two digits
constexpr float kByteLevels = 127.0F;     // and in one
constexpr int kByteZero = 128;            // which is both's zero, as bytes

inline std::size_t at(int a) { return static_cast<std::size_t>(a); }
inline std::ptrdiff_t offset(int row, int width) { return static_cast<std::ptrdiff_t>(row) * width; }
inline int least(int a, int b) { return a < b ? a : b; }

template <int V>
struct Count {
  static constexpr int value = V;
};

// f(Count<V>, first) for as few blocks of at most `Most` things as there may be.
template <int Most, class F>
FTE_EVERYWHERE void in_blocks(int count, F&& f, int done = 0) {
  for (; count - done >= Most; done += Most) f(Count<Most>{}, done);
  if constexpr (Most > 1) {
    if (done < count) in_blocks<(Most + 1) / 2>(count, f, done);
  }
}

FTE_EVERYWHERE void store_some(float* to, Floats values, int count) {
  if (count >= kTile) {
    store(to, values);
  } else {
    for (int i = 0; i < count; ++i) to[i] = values[i];
  }
}

FTE_EVERYWHERE Floats load_some(const float* from, int count) {
  if (count >= kTile) return load(from);
  Floats found = {};
  for (int i = 0; i < count; ++i) found[i] = from[i];
  return found;
}

// --- sums of a tile's 16 rows ------------------------------------------------------------------------------------

struct Fp32 {
  typedef float Stored;
  static FTE_EVERYWHERE Floats column(const float* from) { return load(from); }
};

struct Fp16 {
  typedef std::uint16_t Stored;
  static FTE_EVERYWHERE Floats column(const std::uint16_t* from) {
#if defined(__AVX512F__)
    return {{_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)))}};
#elif defined(__F16C__)
    const __m128i* halves = reinterpret_cast<const __m128i*>(from);
    return {{_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))}};
#else
    // As float_of: subnormal numbers come right by the multiplication.
    const Ints bits = from_halves(from);
    const Ints magnitude_bits = bits & 0x7fff;
    const Floats finite = as_floats(magnitude_bits << 13) * 5.192296858534828e33F;
    const Ints infinite = magnitude_bits >= 0x7c00;
    const Ints special = ((magnitude_bits & 0x3ff) << 13) | 0x7f800000;
    return as_floats((as_ints(finite) & ~infinite) | (special & infinite) | ((bits & 0x8000) << 16));
#endif
  }
};

struct Bf16 {
  typedef std::uint16_t Stored;
  static FTE_EVERYWHERE Floats column(const std::uint16_t* from) { return as_floats(from_halves(from) << 16); }
};

// Even and odd columns apart, so that twice as many sums are under way; the order never depends on V.
template <class Number, int V>
FTE_EVERYWHERE void float_sums(const typename Number::Stored* tile, int columns, const float* x, std::ptrdiff_t stride,
                               Floats (&sums)[V]) {
  Floats odd[V];
  for (int v = 0; v < V; ++v) sums[v] = odd[v] = Floats{};
  int k = 0;
  for (; k + 1 < columns; k += 2) {
    const Floats a = Number::column(tile + k * kTile);
    for (int v = 0; v < V; ++v) sums[v] += a * x[v * stride + k];
    const Floats b = Number::column(tile + (k + 1) * kTile);
    for (int v = 0; v < V; ++v) odd[v] += b * x[v * stride + k + 1];
  }
  if (k < columns) {
    const Floats a = Number::column(tile + k * kTile);
    for (int v = 0; v < V; ++v) sums[v] += a * x[v * stride + k];
  }
  for (int v = 0; v < V; ++v) sums[v] += odd[v];
}

template <int V>
FTE_EVERYWHERE void float_sums(const Matrix& m, int tile, const float* x, std::ptrdiff_t stride, Floats (&sums)[V]) {
  const std::uint8_t* weights = m.tile(tile);
  if (m.numbers == Numbers::fp32) {
    float_sums<Fp32, V>(reinterpret_cast<const float*>(weights), m.columns, x, stride, sums);
  } else if (m.numbers == Numbers::fp16) {
    float_sums<Fp16, V>(reinterpret_cast<const std::uint16_t*>(weights), m.columns, x, stride, sums);
  } else {
    float_sums<Bf16, V>(reinterpret_cast<const std::uint16_t*>(weights), m.columns, x, stride, sums);
  }
}

// sums[v][row] of int8 weights times bytes; exact, so its order is free. Four columns a step, `steps` of them.
#if defined(__AVX512VNNI__)

FTE_EVERYWHERE __m512i spread_four(const std::uint8_t* from) {
  std::int32_t four;
  std::memcpy(&four, from, sizeof four);
  return _mm512_set1_epi32(four);
}

template <int V>
FTE_EVERYWHERE void byte_sums(const std::uint8_t* tile, int steps, const std::uint8_t* x, std::ptrdiff_t stride,
                              Ints (&sums)[V]) {
  __m512i found[V];
  for (int v = 0; v < V; ++v) found[v] = _mm512_setzero_si512();
  int k = 0;
  if constexpr (V <= 3) {  // the instruction takes four cycles: so few sums leave the unit idle
    __m512i more[3][V];
    for (int v = 0; v < V; ++v) more[0][v] = more[1][v] = more[2][v] = _mm512_setzero_si512();
    for (; k + 4 <= steps; k += 4) {
      __m512i weights[4];
      for (int u = 0; u < 4; ++u) weights[u] = _mm512_loadu_si512(tile + (k + u) * 64);
      for (int v = 0; v < V; ++v) {
        const std::uint8_t* from = x + v * stride + 4 * k;
        found[v] = _mm512_dpbusd_epi32(found[v], spread_four(from), weights[0]);
        for (int u = 1; u < 4; ++u) {
          more[u - 1][v] = _mm512_dpbusd_epi32(more[u - 1][v], spread_four(from + 4 * u), weights[u]);
        }
      }
    }
    for (int v = 0; v < V; ++v) {
      found[v] = _mm512_add_epi32(_mm512_add_epi32(found[v], more[0][v]), _mm512_add_epi32(more[1][v], more[2][v]));
    }
  }
  for (; k < steps; ++k) {
    const __m512i weights = _mm512_loadu_si512(tile + k * 64);
    for (int v = 0; v < V; ++v) found[v] = _mm512_dpbusd_epi32(found[v], spread_four(x + v * stride + 4 * k), weights);
  }
  for (int v = 0; v < V; ++v) sums[v] = {{(Ints::Part)found[v]}};
}

#elif defined(__AVX2__)

template <int V>
FTE_EVERYWHERE void byte_sums(const std::uint8_t* tile, int steps, const std::uint8_t* x, std::ptrdiff_t stride,
                              Ints (&sums)[V]) {
  __m256i found[V][4];  // of four rows each: the sums of columns 0 and 1, and of 2 and 3, of each row
  for (int v = 0; v < V; ++v) {
    for (int q = 0; q < 4; ++q) found[v][q] = _mm256_setzero_si256();
  }
  for (int k = 0; k < steps; ++k) {
    __m256i four[V];
    for (int v = 0; v < V; ++v) {
      std::int32_t bytes;
      std::memcpy(&bytes, x + v * stride + 4 * k, sizeof bytes);
      four[v] = _mm256_cvtepu8_epi16(_mm_set1_epi32(bytes));
    }
    for (int q = 0; q < 4; ++q) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(tile + k * 64 + q * 16));
      const __m256i weights = _mm256_cvtepi8_epi16(bytes);
      for (int v = 0; v < V; ++v) {
        found[v][q] = _mm256_add_epi32(found[v][q], _mm256_madd_epi16(four[v], weights));
      }
    }
  }
  for (int v = 0; v < V; ++v) {
    for (int half = 0; half < 2; ++half) {
      const __m256i pairs = _mm256_hadd_epi32(found[v][2 * half], found[v][2 * half + 1]);
      const __m256i rows = _mm256_permute4x64_epi64(pairs, 0xd8);
      std::memcpy(reinterpret_cast<char*>(&sums[v]) + 32 * half, &rows, sizeof rows);
    }
  }
}

#else

template <int V>
FTE_EVERYWHERE void byte_sums(const std::uint8_t* tile, int steps, const std::uint8_t* x, std::ptrdiff_t stride,
                              Ints (&sums)[V]) {
  const std::int8_t* weights = reinterpret_cast<const std::int8_t*>(tile);
  for (int v = 0; v < V; ++v) {
    std::int32_t found[kTile] = {};
    for (int k = 0; k < steps; ++k) {
      const std::uint8_t* four = x + v * stride + 4 * k;
      for (int row = 0; row < kTile; ++row) {
        const std::int8_t* w = weights + (k * kTile + row) * 4;
        found[row] += w[0] * four[0] + w[1] * four[1] + w[2] * four[2] + w[3] * four[3];
      }
    }
    sums[v] = load(found);
  }
}

#endif

// --- products ----------------------------------------------------------------------------------------------------

void multiply(const Matrix& m, const float* x, std::ptrdiff_t stride, int count, int first, int last, float* out,
              std::ptrdiff_t out_stride, bool add) {
  for (int tile = first; tile < last; ++tile) {
    in_blocks<kVectors>(count, [&](auto block, int v0) __attribute__((always_inline)) {
      constexpr int V = decltype(block)::value;
      Floats sums[V];
      float_sums<V>(m, tile, x + v0 * stride, stride, sums);
      for (int v = 0; v < V; ++v) {
        float* to = out + (v0 + v) * out_stride + tile * kTile;
        store(to, add ? load(to) + sums[v] : sums[v]);
      }
    });
  }
}

// x (width) in two digits: high bytes, then `stride` further on low bytes; the scale. What exceeds width is not
// written.
FTE_EVERYWHERE float to_digits(const float* x, int width, std::uint8_t* high, std::uint8_t* low) {
  Floats most = {};
  int k = 0;
  for (; k + kTile <= width; k += kTile) most = larger(most, magnitude(load(x + k)));
  if (k < width) most = larger(most, magnitude(load_some(x + k, width - k)));
  const float largest = largest_of(most), scale = largest > 0.0F ? largest / kDigitLevels : 1.0F;
  const float inverse = 1.0F / scale;
  for (k = 0; k < width; k += kTile) {
    const Floats values =
        smaller(larger(load_some(x + k, width - k) * inverse, spread(-kDigitLevels)), spread(kDigitLevels));
    const Ints levels = nearest(values) + 256 * kByteZero;
    const Bytes highs = to_bytes(levels >> 8), lows = to_bytes(levels & 255);
    std::memcpy(high + k, &highs, at(least(kTile, width - k)));
    std::memcpy(low + k, &lows, at(least(kTile, width - k)));
  }
  return scale;
}

void quantize_rows(const float* values, std::ptrdiff_t stride, int count, int width, std::uint8_t* bytes,
                   std::ptrdiff_t byte_stride, float* scales) {
  for (int row = 0; row < count; ++row) {
    const float* x = values + row * stride;
    Floats most = {};
    int k = 0;
    for (; k + kTile <= width; k += kTile) most = larger(most, magnitude(load(x + k)));
    if (k < width) most = larger(most, magnitude(load_some(x + k, width - k)));
    const float largest = largest_of(most), scale = largest > 0.0F ? largest / kByteLevels : 1.0F;
    const Floats limit = spread(kByteLevels);
    for (k = 0; k < width; k += kTile) {
      const Floats scaled = load_some(x + k, width - k) * (1.0F / scale);
      const Bytes found = to_bytes(nearest(smaller(larger(scaled, -limit), limit)) + kByteZero);
      std::memcpy(bytes + row * byte_stride + k, &found, at(least(kTile, width - k)));
    }
    scales[row] = scale;
  }
}

// --- cells -------------------------------------------------------------------------------------------------------

// sums: i, f, g, o of unit 0, of unit 1, ... The last units go the same way as all others: which they are depends on
// the number of workers, and may not change a bit.
void lstm_cells(const float* sums, float* cell, float* hidden, int units) {
  for (int u = 0; u < units; u += kTile) {
    const int some = units - u;
    Floats gates[4] = {};
    for (int i = 0; i < least(some, kTile); ++i) {
      for (int gate = 0; gate < 4; ++gate) gates[gate][i] = sums[4 * (u + i) + gate];
    }
    const Floats c = sigmoid(gates[1]) * load_some(cell + u, some) + sigmoid(gates[0]) * tanh_of(gates[2]);
    store_some(cell + u, c, some);
    store_some(hidden + u, sigmoid(gates[3]) * tanh_of(c), some);
  }
}

// --- a flow's frames on a thread ---------------------------------------------------------------------------------

class Thread {
 public:
  Thread(int index, int count, Barrier& barrier, FlowScratch& scratch)
      : index_(index), count_(count), barrier_(barrier), scratch_(scratch) {}

  Part part(int count, int multiple) const {
    return {index_ ? part_end(count, count_, index_ - 1, multiple) : 0, part_end(count, count_, index_, multiple)};
  }
  static const Buffer<float>& no_bias() { return kNoBias; }

  int start_frame(const FlowBlock& s) {
    speaking_ = 0;
    for (int b = 0; b < s.batch; ++b) {
      if (s.remaining[b] > 0) utterance_[speaking_++] = b;
    }
    return speaking_;
  }

  void load(const float* rows, int width) {
    width_ = width;
    stride_ = round_up(width, kTile) + kApart;
    for (int v = 0; v < speaking_; ++v) {
      std::memcpy(scratch_.floats.data() + offset(v, stride_), rows + offset(utterance_[v], width), at(width) * 4);
    }
    in_digits_ = false;
  }

  void add_product(const Matrix& m, Part rows, float* out) {
    product(m, rows, [&](int v, int row, Floats sum) __attribute__((always_inline)) {
      float* to = out + offset(utterance_[v], m.rows) + row;
      store_some(to, load_some(to, m.rows - row) + sum, m.rows - row);
    });
  }

  void set_product(const Matrix& m, Part rows, const Buffer<float>& bias, float* out) {
    product(m, rows, [&](int v, int row, Floats sum) __attribute__((always_inline)) {
      if (!bias.empty()) sum += fte::load(bias.data() + row);
      store_some(out + offset(utterance_[v], m.rows) + row, sum, m.rows - row);
    });
  }

  void dense(const Matrix& m, const Buffer<float>& bias, Part rows, float* out) {
    product(m, rows, [&](int v, int row, Floats sum) __attribute__((always_inline)) {
      store_some(out + offset(utterance_[v], m.rows) + row, tanh_of(sum + fte::load(bias.data() + row)), m.rows - row);
    });
  }

  void cells(const float* sums, float* cell, float* hidden, int size, Part units) {
    for (int v = 0; v < speaking_; ++v) {
      const std::ptrdiff_t first = offset(utterance_[v], size) + units.first;
      lstm_cells(sums + 4 * first, cell + first, hidden + first, units.last - units.first);
    }
  }

  // Cumulative attention: the memory of this worker's symbols times sigmoid(convolutions over the past alignment).
  void gate_memory(const FlowWeights& f, const FlowBlock& s) {
    const FlowSizes& n = f.sizes;
    for (int v = 0; v < speaking_; ++v) {
      const int b = utterance_[v], symbols = s.texts[b];
      const Part own = part(symbols, 1);
      for (int symbol = own.first; symbol < own.last; ++symbol) gate_symbol(f, n, s, b, symbol, symbols);
    }
  }

  void gated_keys(const FlowWeights& f, const FlowBlock& s, Part rows) {
    const FlowSizes& n = f.sizes;
    for (int v = 0; v < speaking_; ++v) {
      const std::ptrdiff_t first = offset(utterance_[v], s.symbols);
      const float* x = s.gated_memory + first * n.memory;
      for (int tile = rows.first / kTile; tile * kTile < rows.last; ++tile) {
        in_blocks<kVectors>(s.texts[utterance_[v]], [&](auto block, int i0) __attribute__((always_inline)) {
          constexpr int V = decltype(block)::value;
          Floats sums[V];
          float_sums<V>(f.key, tile, x + offset(i0, n.memory), n.memory, sums);
          for (int i = 0; i < V; ++i) {
            const int row = tile * kTile;
            store_some(s.gated_keys + (first + i0 + i) * n.attention + row, sums[i], n.attention - row);
          }
        });
      }
    }
  }

  void scores(const FlowWeights& f, const FlowBlock& s) {
    const int width = f.sizes.attention;
    const float* keys = f.sizes.filters ? s.gated_keys : s.keys;
    for (int v = 0; v < speaking_; ++v) {
      const int b = utterance_[v];
      const float* query = s.query + offset(b, width);
      const Part own = part(s.texts[b], 1);
      for (int symbol = own.first; symbol < own.last; ++symbol) {
        const float* key = keys + offset(b * s.symbols + symbol, width);
        Floats sum = {};
        for (int a = 0; a < width; a += kTile) {
          const int some = width - a;
          sum += load_some(f.energy.data() + a, some) * tanh_of(load_some(query + a, some) + load_some(key + a, some));
        }
        s.scores[offset(b, s.symbols) + symbol] = sum_of(sum) / s.temperatures[b];
      }
    }
  }

  // The weights of every utterance that speaks, by each worker for itself; the context's channels `own`.
  void attend(const FlowBlock& s, int t, Part own) {
    const int width = s.attention_width;
    for (int v = 0; v < speaking_; ++v) {
      const int b = utterance_[v], symbols = s.texts[b];
      float* weights = scratch_.weights.data();
      const std::ptrdiff_t row = (static_cast<std::ptrdiff_t>(t) * s.batch + b) * s.symbols;
      if (s.imposed && s.is_imposed[b]) {
        std::memcpy(weights, s.imposed + row, at(symbols) * sizeof(float));
      } else {
        softmax(s.scores + offset(b, s.symbols), symbols, weights);
        if (s.prior) follow_prior(s.prior + row, symbols, weights);
      }
      for (int a = own.first; a < own.last; a += kTile) {
        const int some = own.last - a;
        const float* values = s.values + offset(b * s.symbols, width) + a;
        Floats sum = {};
        for (int i = 0; i < symbols; ++i) sum += load_some(values + offset(i, width), some) * weights[i];
        store_some(s.context + offset(b, width) + a, sum, some);
      }
      if (v % count_ == index_) note_weights(s, b, symbols, weights, s.attention + row);
    }
  }

  void gate(const FlowWeights& f, const FlowBlock& s, int t) {
    const int h = f.sizes.hidden, a = f.sizes.attention;
    for (int v = 0; v < speaking_; ++v) {
      if (v % count_ != count_ - 1 - index_) continue;
      const int b = utterance_[v];
      const float sum =
          dot(f.gate.data(), s.hidden + offset(b, h), h) + dot(f.gate.data() + h, s.context + offset(b, a), a);
      s.gate[offset(t, s.batch) + b] = sigmoid(sum + f.gate[at(h + a)]);
    }
  }

  void affine(const FlowWeights& f, const FlowBlock& s, int t, Part channels) {
    product(f.affine, {2 * channels.first, 2 * channels.last},
            [&](int v, int row, Floats sum) __attribute__((always_inline)) {
              sum += fte::load(f.affine_bias.data() + row);
              const int b = utterance_[v], mels = f.sizes.mels;
              const Floats factors = exp_of(-sum);
              const std::ptrdiff_t frame = offset(t * s.batch + b, mels);
              for (int i = 0; i < kTile && row + i < 2 * mels; i += 2) {
                const int channel = (row + i) / 2;
                const float found = (s.z[frame + channel] - sum[i + 1]) * factors[i];
                s.mel[frame + channel] = s.last[offset(b, mels) + channel] = found;
              }
            });
  }

  void end_frame(const FlowBlock& s, int t) {
    if (index_ != 0) return;
    for (int v = 0; v < speaking_; ++v) {
      const int b = utterance_[v];
      const bool fires = s.gate && s.gate[offset(t, s.batch) + b] > s.thresholds[b];
      s.remaining[b] = fires ? 0 : s.remaining[b] - 1;
    }
  }

  void arrive() { round_ = barrier_.arrive(); }
  void wait() { barrier_.wait(round_); }
  void barrier() {
    arrive();
    wait();
  }

 private:
  // write(v, row, sums of 16 rows from `row` on) for the rows, whole tiles but for the last.
  template <class F>
  FTE_EVERYWHERE void product(const Matrix& m, Part rows, F&& write) {
    if (m.numbers == Numbers::int8) {
      int8_product(m, rows, write);
      return;
    }
    for (int tile = rows.first / kTile; tile * kTile < rows.last; ++tile) {
      in_blocks<kVectors>(speaking_, [&](auto block, int v0) __attribute__((always_inline)) {
        constexpr int V = decltype(block)::value;
        Floats sums[V];
        float_sums<V>(m, tile, scratch_.floats.data() + offset(v0, stride_), stride_, sums);
        for (int v = 0; v < V; ++v) write(v0 + v, tile * kTile, sums[v]);
      });
    }
  }

  template <class F>
  FTE_EVERYWHERE void int8_product(const Matrix& m, Part rows, F&& write) {
    if (!in_digits_) quantize();
    for (int tile = rows.first / kTile; tile * kTile < rows.last; ++tile) {
      const Floats scale = fte::load(m.scales.data() + tile * kTile);
      const Ints zero = fte::load(m.sums.data() + tile * kTile) * kByteZero;
      in_blocks<kPairs>(speaking_, [&](auto block, int v0) __attribute__((always_inline)) {
        constexpr int V = decltype(block)::value;
        Ints sums[2 * V];
        byte_sums<2 * V>(m.tile(tile), m.depth / 4, scratch_.digits.data() + offset(2 * v0, stride_), stride_, sums);
        for (int v = 0; v < V; ++v) {
          const Floats whole = to_floats(sums[2 * v] - zero) * 256.0F + to_floats(sums[2 * v + 1]);
          write(v0 + v, tile * kTile, whole * (scale * scratch_.scales[at(v0 + v)]));
        }
      });
    }
  }

  void quantize() {
    for (int v = 0; v < speaking_; ++v) {
      std::uint8_t* high = scratch_.digits.data() + offset(2 * v, stride_);
      scratch_.scales[at(v)] = to_digits(scratch_.floats.data() + offset(v, stride_), width_, high, high + stride_);
    }
    in_digits_ = true;
  }

  void gate_symbol(const FlowWeights& f, const FlowSizes& n, const FlowBlock& s, int b, int symbol, int symbols) {
    const float* past = s.alignment + offset(2 * b, s.symbols);
    const int first_taps = 2 * n.filter_reach + 1, second_taps = 2 * n.memory_reach + 1;
    float* hidden = scratch_.sums.data();  // (second_taps, filters)
    for (int tap = 0; tap < second_taps; ++tap) {
      const int centre = symbol + tap - n.memory_reach;
      for (int filter = 0; filter < n.filters; ++filter) {
        float sum = 0.0F;
        if (centre >= 0 && centre < symbols) {
          sum = f.filter_bias[at(filter)];
          for (int channel = 0; channel < 2; ++channel) {
            for (int k = 0; k < first_taps; ++k) {
              const int from = centre + k - n.filter_reach;
              if (from < 0 || from >= symbols) continue;
              sum += f.filter_weights[at((filter * 2 + channel) * first_taps + k)] *
                     past[offset(channel, s.symbols) + from];
            }
          }
        }
        hidden[tap * n.filters + filter] = fte::larger(sum, 0.0F);
      }
    }
    const std::ptrdiff_t row = offset(b * s.symbols + symbol, n.memory);
    for (int d = 0; d < n.memory; d += kTile) {
      const int some = n.memory - d;
      Floats sum = load_some(f.memory_bias.data() + d, some);
      for (int k = 0; k < second_taps * n.filters; ++k) {
        sum += load_some(f.memory_weights.data() + offset(k, n.memory) + d, some) * hidden[k];
      }
      store_some(s.gated_memory + row + d, load_some(s.memory + row + d, some) * sigmoid(sum), some);
    }
  }

  static void softmax(const float* scores, int count, float* weights) {
    float highest = scores[0];
    for (int i = 1; i < count; ++i) highest = fte::larger(highest, scores[i]);
    Floats total = {};
    for (int i = 0; i < count; i += kTile) {
      const Floats found = exp_of(load_some(scores + i, count - i) - highest);
      store_some(weights + i, found, count - i);
      total += load_some(weights + i, count - i);
    }
    const float factor = 1.0F / sum_of(total);
    for (int i = 0; i < count; ++i) weights[i] *= factor;
  }

  // softmax(log(weights + eps) + log(prior + eps)), without the logarithms; the products may be too small for floats.
  // A prior of ones says nothing: an utterance that has none is the same beside one that has.
  static void follow_prior(const float* prior, int count, float* weights) {
    constexpr double kEpsilon = 1e-20;
    int ones = 0;
    while (ones < count && prior[ones] == 1.0F) ++ones;
    if (ones == count) return;
    double total = 0.0;
    for (int i = 0; i < count; ++i) total += (weights[i] + kEpsilon) * (prior[i] + kEpsilon);
    for (int i = 0; i < count; ++i) {
      weights[i] = static_cast<float>((weights[i] + kEpsilon) * (prior[i] + kEpsilon) / total);
    }
  }

  static void note_weights(const FlowBlock& s, int b, int symbols, const float* weights, float* attention) {
    std::memcpy(attention, weights, at(symbols) * sizeof(float));
    if (!s.alignment) return;
    float* total = s.alignment + offset(2 * b, s.symbols);
    for (int i = 0; i < symbols; ++i) {
      total[i] += weights[i];
      total[s.symbols + i] = weights[i];
    }
  }

  static float dot(const float* a, const float* b, int count) {
    Floats sum = {};
    for (int i = 0; i < count; i += kTile) sum += load_some(a + i, count - i) * load_some(b + i, count - i);
    return sum_of(sum);
  }

  const int index_, count_;
  Barrier& barrier_;
  FlowScratch& scratch_;
  int utterance_[kMostBatch] = {};
  int speaking_ = 0;
  int width_ = 0, stride_ = 0;
  bool in_digits_ = false;
  int round_ = 0;
};

void decode(const FlowWeights& weights, const FlowBlock& block, int worker, int workers, Barrier& barrier,
            FlowScratch& scratch) {
  Thread thread(worker, workers, barrier, scratch);
  decode_frames(thread, weights, block);
}

// --- a layer of WN -----------------------------------------------------------------------------------------------

// What the layer's products make of its input, for V groups from `group` on, channels of `tile`.
template <int V>
FTE_EVERYWHERE void wn_sums(const WnLayer& l, const WnBuffers& b, const List<Matrix>& taps, const Matrix& condition,
                            int tile, int group, Floats (&found)[V]) {
  for (int v = 0; v < V; ++v) found[v] = Floats{};
  if (!l.quantized) {
    Floats part[V];
    for (int tap = 0; tap < l.taps; ++tap) {
      const int first = b.reach + group + (tap - l.taps / 2) * l.dilation;
      float_sums<Fp32, V>(reinterpret_cast<const float*>(taps[tap].tile(tile)), l.width, b.x + offset(first, l.width),
                          l.width, part);
      for (int v = 0; v < V; ++v) found[v] += part[v];
    }
    float_sums<Fp32, V>(reinterpret_cast<const float*>(condition.tile(tile)), condition.columns,
                        b.condition + offset(group, b.condition_width), b.condition_width, part);
    for (int v = 0; v < V; ++v) found[v] += part[v];
    return;
  }
  Ints sums[V];
  for (int tap = 0; tap < l.taps; ++tap) {
    const Matrix& m = taps[tap];
    const int first = b.reach + group + (tap - l.taps / 2) * l.dilation;
    byte_sums<V>(m.tile(tile), l.width / 4, b.x_bytes + offset(first, l.width), l.width, sums);
    const Ints zero = load(m.sums.data() + tile * kTile) * kByteZero;
    for (int v = 0; v < V; ++v) found[v] += to_floats(sums[v] - zero) * b.x_scales[first + v];
  }
  const Floats scale = load(taps[0].scales.data() + tile * kTile);
  for (int v = 0; v < V; ++v) found[v] *= scale;
  byte_sums<V>(condition.tile(tile), condition.depth / 4, b.condition_bytes + offset(group, b.condition_width),
               b.condition_width, sums);
  const Ints zero = load(condition.sums.data() + tile * kTile) * kByteZero;
  const Floats condition_scale = load(condition.scales.data() + tile * kTile);
  for (int v = 0; v < V; ++v) {
    found[v] += to_floats(sums[v] - zero) * (condition_scale * b.condition_scales[group + v]);
  }
}

FTE_EVERYWHERE void wn_gate(const WnLayer& l, const WnBuffers& b, int first, int count, WnScratch& scratch) {
  for (int tile = 0; tile * kTile < l.width; ++tile) {
    in_blocks<kVectors>(count, [&](auto block, int i) __attribute__((always_inline)) {
      constexpr int V = decltype(block)::value;
      Floats tanhs[V], sigmoids[V];
      wn_sums<V>(l, b, l.tanh, l.condition_tanh, tile, first + i, tanhs);
      wn_sums<V>(l, b, l.sigmoid, l.condition_sigmoid, tile, first + i, sigmoids);
      for (int v = 0; v < V; ++v) {
        const float* bias = l.bias.data() + offset((b.phase + first + i + v) % l.phases, 2 * l.width) + tile * kTile;
        const Floats gated = gate_of(tanhs[v] + load(bias), sigmoids[v] + load(bias + l.width));
        if (l.quantized) {
          const Bytes bytes = to_bytes(nearest(gated * kGateLevels) + kByteZero);
          std::memcpy(scratch.bytes.data() + offset(i + v, l.width) + tile * kTile, &bytes, sizeof bytes);
        } else {
          store(scratch.gated.data() + offset(i + v, l.width) + tile * kTile, gated);
        }
      }
    });
  }
}

// Rows of a product with what the gate let through, in units of one level of the gate where that is in bytes.
template <int V>
FTE_EVERYWHERE void gated_sums(const WnLayer& l, const Matrix& m, int tile, int first, const WnScratch& scratch,
                               Floats (&found)[V]) {
  if (!l.quantized) {
    float_sums<Fp32, V>(reinterpret_cast<const float*>(m.tile(tile)), l.width,
                        scratch.gated.data() + offset(first, l.width), l.width, found);
    return;
  }
  Ints sums[V];
  byte_sums<V>(m.tile(tile), l.width / 4, scratch.bytes.data() + offset(first, l.width), l.width, sums);
  const Ints zero = load(m.sums.data() + tile * kTile) * kByteZero;
  for (int v = 0; v < V; ++v) found[v] = to_floats(sums[v] - zero);
}

FTE_EVERYWHERE void wn_residual(const WnLayer& l, const WnBuffers& b, int first, int count, WnScratch& scratch) {
  float* to = l.quantized ? b.x : b.next_x;
  for (int tile = 0; tile * kTile < l.width; ++tile) {
    const Floats bias = load(l.residual_bias.data() + tile * kTile);
    Floats scale = spread(1.0F);
    if (l.quantized) scale = load(l.residual.scales.data() + tile * kTile) * (1.0F / kGateLevels);
    in_blocks<kVectors>(count, [&](auto block, int i) __attribute__((always_inline)) {
      constexpr int V = decltype(block)::value;
      Floats sums[V];
      gated_sums<V>(l, l.residual, tile, i, scratch, sums);
      for (int v = 0; v < V; ++v) {
        const std::ptrdiff_t place = offset(b.reach + first + i + v, l.width) + tile * kTile;
        store(to + place, load(b.x + place) + (sums[v] * scale + bias));
      }
    });
  }
  if (l.quantized) {
    const int row = b.reach + first;
    quantize_rows(to + offset(row, l.width), l.width, count, l.width, b.next_bytes + offset(row, l.width), l.width,
                  b.next_scales + row);
  }
}

FTE_EVERYWHERE void wn_end(const WnLayer& l, const WnBuffers& b, int first, int count, WnScratch& scratch) {
  const int rows = b.out_width;
  in_blocks<kVectors>(count, [&](auto block, int i) __attribute__((always_inline)) {
    constexpr int V = decltype(block)::value;
    for (int tile = 0; tile < l.end.tiles(); ++tile) {
      Floats sums[V];
      gated_sums<V>(l, l.end, tile, i, scratch, sums);
      for (int v = 0; v < V; ++v) {
        float* out = b.out + offset(first + i + v, b.out_stride);
        for (int lane = 0; lane < kTile && tile * kTile + lane < l.end.rows; ++lane) {
          const int row = tile * kTile + lane;
          if (!l.quantized) {
            out[row] += sums[v][lane];
          } else if (row < rows) {
            out[row] += sums[v][lane] * (128.0F * l.end_scales[at(row)]);
          } else {
            out[row - rows] += sums[v][lane] * l.end_scales[at(row - rows)];
          }
        }
      }
    }
  });
}

void wn_layer(const WnLayer& l, const WnBuffers& b, int first, int last, WnScratch& scratch) {
  for (int group = first; group < last; group += kGroupTile) {
    const int count = least(kGroupTile, last - group);
    wn_gate(l, b, group, count, scratch);
    if (!l.last) wn_residual(l, b, group, count, scratch);
    wn_end(l, b, group, count, scratch);
  }
}

const Kernels kKernels = {multiply, decode, lstm_cells, wn_layer, quantize_rows};

}  // namespace
}  // namespace fte
