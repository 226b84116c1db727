#include <cuda_fp16.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "elementary.h"
#include "flow_step.h"
#include "gpu_flow.h"
#include "layout.h"
#include "memory.h"

namespace fte {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kTogether = 2;  // rows that a warp computes at once, so that activations are read once for both
constexpr float kDigitLevels = 32767.0F;
constexpr int kDigitZero = 128;  // of the high byte: together they count from 32768
constexpr int kMostSlots = 3 * kMostLayers + 8;

struct GpuMatrix {
  const std::uint8_t* values = nullptr;  // (rows, stride)
  const float* scales = nullptr;         // int8
  const std::int32_t* sums = nullptr;    // int8
  Numbers numbers = Numbers::fp32;
  int rows = 0, columns = 0, stride = 0;
  int slot = -1;  // int8: which of the matrices that shared memory may hold
};

struct GpuWeights {
  FlowSizes sizes;
  GpuMatrix mel, early, query, affine, key;
  GpuMatrix dense[2];
  const float* dense_bias[2] = {nullptr, nullptr};
  const GpuMatrix* recurrent = nullptr;
  const GpuMatrix* late = nullptr;
  const float* const* bias = nullptr;
  const float *energy = nullptr, *affine_bias = nullptr, *gate = nullptr;
  const float *filter_weights = nullptr, *filter_bias = nullptr, *memory_weights = nullptr, *memory_bias = nullptr;
  bool resident = false;
  int widest = 0;                    // numbers of a vector in shared memory
  const GpuMatrix* slots = nullptr;  // the int8 matrices, by slot
  int slot_count = 0;
  const int* slot_units = nullptr;  // rows that belong together: 4 in an LSTM, else 1
};

// What other blocks have written is read past the first-level cache, which may hold what was there before.
__device__ float shared_value(const float* from) { return __ldcg(from); }

__device__ int part_begin(int count, int workers, int worker) {
  return static_cast<int>(static_cast<long long>(count) * worker / workers);
}

__device__ float warp_sum(float value) {
  for (int step = 16; step; step /= 2) value += __shfl_xor_sync(0xffffffffU, value, step);
  return value;
}
__device__ double warp_sum(double value) {
  for (int step = 16; step; step /= 2) value += __shfl_xor_sync(0xffffffffU, value, step);
  return value;
}
__device__ int warp_sum(int value) {
  for (int step = 16; step; step /= 2) value += __shfl_xor_sync(0xffffffffU, value, step);
  return value;
}
__device__ float warp_largest(float value) {
  for (int step = 16; step; step /= 2) value = fmaxf(value, __shfl_xor_sync(0xffffffffU, value, step));
  return value;
}

// Four unsigned bytes times four signed ones, added up.
__device__ int dot_four(unsigned bytes, int weights, int sum) {
  int found;
  asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(found) : "r"(bytes), "r"(weights), "r"(sum));
  return found;
}

// Shared memory, but for int8 weights that stay in it.
struct BlockMemory {
  int utterance[kMostBatch];
  int speaking;
  float scale[kMostBatch];  // of the vectors in digits
  int offset[kMostSlots];   // of resident weights
  float filtered[8 * 64];   // cumulative attention's hidden layer around a symbol
};

// A block of threads as a worker of flow_step.h. All its functions are called by all threads together.
class Block {
 public:
  __device__ Block(const GpuWeights& weights, unsigned* arrived, BlockMemory& memory, float* vectors,
                   std::uint8_t* digits, std::uint8_t* resident)
      : f_(weights), arrived_(arrived), memory_(memory), vectors_(vectors), digits_(digits), resident_(resident) {
    if (f_.resident) keep_weights();
  }

  __device__ Part part(int count, int) const {
    return {part_begin(count, gridDim.x, blockIdx.x), part_begin(count, gridDim.x, blockIdx.x + 1)};
  }
  __device__ static const float* no_bias() { return nullptr; }

  __device__ int start_frame(const FlowBlock& s) {
    __syncthreads();
    if (threadIdx.x == 0) {
      int speaking = 0;
      for (int b = 0; b < s.batch; ++b) {
        if (__ldcg(s.remaining + b) > 0) memory_.utterance[speaking++] = b;
      }
      memory_.speaking = speaking;
    }
    __syncthreads();
    return memory_.speaking;
  }

  __device__ void load(const float* rows, int width) {
    __syncthreads();
    width_ = width;
    for (int i = threadIdx.x; i < memory_.speaking * f_.widest; i += kThreads) {
      const int v = i / f_.widest, k = i % f_.widest;
      vectors_[i] = k < width ? shared_value(rows + static_cast<std::size_t>(memory_.utterance[v]) * width + k) : 0.0F;
    }
    in_digits_ = false;
    __syncthreads();
  }

  __device__ void add_product(const GpuMatrix& m, Part rows, float* out) {
    product(m, rows, [&](int v, int row, float sum) {
      float* to = out + static_cast<std::size_t>(memory_.utterance[v]) * m.rows + row;
      *to = shared_value(to) + sum;
    });
  }

  __device__ void set_product(const GpuMatrix& m, Part rows, const float* bias, float* out) {
    product(m, rows, [&](int v, int row, float sum) {
      out[static_cast<std::size_t>(memory_.utterance[v]) * m.rows + row] = sum + (bias ? bias[row] : 0.0F);
    });
  }

  __device__ void dense(const GpuMatrix& m, const float* bias, Part rows, float* out) {
    product(m, rows, [&](int v, int row, float sum) {
      out[static_cast<std::size_t>(memory_.utterance[v]) * m.rows + row] = tanh_of(sum + bias[row]);
    });
  }

  __device__ void cells(const float* sums, float* cell, float* hidden, int size, Part units) {
    __syncthreads();  // the sums are of other threads of this block
    const int own = units.last - units.first;
    for (int i = threadIdx.x; i < memory_.speaking * own; i += kThreads) {
      const std::size_t place = static_cast<std::size_t>(memory_.utterance[i / own]) * size + units.first + i % own;
      const float* of = sums + 4 * place;
      const float c = sigmoid(shared_value(of + 1)) * shared_value(cell + place) +
                      sigmoid(shared_value(of)) * tanh_of(shared_value(of + 2));
      cell[place] = c;
      hidden[place] = sigmoid(shared_value(of + 3)) * tanh_of(c);
    }
    __syncthreads();  // before these sums are set anew
  }

  __device__ void gate_memory(const GpuWeights& f, const FlowBlock& s) {
    const FlowSizes& n = f.sizes;
    const int taps = 2 * n.filter_reach + 1, wide = 2 * n.memory_reach + 1;
    for (int v = 0; v < memory_.speaking; ++v) {
      const int b = memory_.utterance[v], symbols = s.texts[b];
      const float* past = s.alignment + static_cast<std::size_t>(2 * b) * s.symbols;
      const Part own = part(symbols, 1);
      for (int symbol = own.first; symbol < own.last; ++symbol) {
        __syncthreads();
        for (int i = threadIdx.x; i < wide * n.filters; i += kThreads) {
          const int centre = symbol + i / n.filters - n.memory_reach, filter = i % n.filters;
          float sum = 0.0F;
          if (centre >= 0 && centre < symbols) {
            sum = f.filter_bias[filter];
            for (int channel = 0; channel < 2; ++channel) {
              for (int k = 0; k < taps; ++k) {
                const int from = centre + k - n.filter_reach;
                if (from < 0 || from >= symbols) continue;
                sum += f.filter_weights[(filter * 2 + channel) * taps + k] *
                       shared_value(past + channel * s.symbols + from);
              }
            }
          }
          memory_.filtered[i] = fmaxf(sum, 0.0F);
        }
        __syncthreads();
        const std::size_t row = (static_cast<std::size_t>(b) * s.symbols + symbol) * n.memory;
        for (int d = threadIdx.x; d < n.memory; d += kThreads) {
          float sum = f.memory_bias[d];
          for (int k = 0; k < wide * n.filters; ++k) sum += f.memory_weights[k * n.memory + d] * memory_.filtered[k];
          s.gated_memory[row + d] = s.memory[row + d] * sigmoid(sum);
        }
      }
    }
  }

  __device__ void gated_keys(const GpuWeights& f, const FlowBlock& s, Part rows) {
    const FlowSizes& n = f.sizes;
    const float* key = reinterpret_cast<const float*>(f.key.values);
    const int own = rows.last - rows.first;
    for (int v = 0; v < memory_.speaking; ++v) {
      const int b = memory_.utterance[v], symbols = s.texts[b];
      for (int i = warp(); i < own * symbols; i += kWarps) {
        const int row = rows.first + i % own;
        const std::size_t place = static_cast<std::size_t>(b) * s.symbols + i / own;
        float sum = 0.0F;
        for (int d = lane(); d < n.memory; d += 32) {
          sum += key[static_cast<std::size_t>(row) * f.key.stride + d] *
                 shared_value(s.gated_memory + place * n.memory + d);
        }
        sum = warp_sum(sum);
        if (lane() == 0) s.gated_keys[place * n.attention + row] = sum;
      }
    }
  }

  __device__ void scores(const GpuWeights& f, const FlowBlock& s) {
    const int width = f.sizes.attention;
    for (int v = 0; v < memory_.speaking; ++v) {
      const int b = memory_.utterance[v];
      const float* query = s.query + static_cast<std::size_t>(b) * width;
      for (int symbol = blockIdx.x * kWarps + warp(); symbol < s.texts[b]; symbol += gridDim.x * kWarps) {
        const std::size_t place = static_cast<std::size_t>(b) * s.symbols + symbol;
        float sum = 0.0F;
        for (int a = lane(); a < width; a += 32) {
          const float key =
              f.sizes.filters ? shared_value(s.gated_keys + place * width + a) : s.keys[place * width + a];
          sum += f.energy[a] * tanh_of(shared_value(query + a) + key);
        }
        sum = warp_sum(sum);
        if (lane() == 0) s.scores[place] = sum / s.temperatures[b];
      }
    }
  }

  // A warp for each utterance: its weights are computed anew wherever they are needed, which takes no memory.
  __device__ void attend(const FlowBlock& s, int t, Part own) {
    for (int v = warp(); v < memory_.speaking; v += kWarps) {
      const int b = memory_.utterance[v], symbols = s.texts[b];
      const std::size_t row = (static_cast<std::size_t>(t) * s.batch + b) * s.symbols;
      const Weighing weigh = weighing_of(s, b, symbols, row);
      for (int first = own.first; first < own.last; first += kChannels) {
        float sums[kChannels] = {};
        const int channels = min(kChannels, own.last - first);
        for (int i = lane(); i < symbols; i += 32) {
          const float weight = weigh.of(i);
          const float* values = s.values + (static_cast<std::size_t>(b) * s.symbols + i) * s.attention_width + first;
          for (int c = 0; c < kChannels; ++c) {
            if (c < channels) sums[c] += weight * values[c];
          }
        }
        for (int c = 0; c < kChannels; ++c) {
          const float sum = warp_sum(sums[c]);
          if (lane() == 0 && c < channels) s.context[static_cast<std::size_t>(b) * s.attention_width + first + c] = sum;
        }
      }
      if (v % gridDim.x != blockIdx.x) continue;
      float* total = s.alignment ? s.alignment + static_cast<std::size_t>(2 * b) * s.symbols : nullptr;
      for (int i = lane(); i < symbols; i += 32) {
        const float weight = weigh.of(i);
        s.attention[row + i] = weight;
        if (!total) continue;
        total[i] = shared_value(total + i) + weight;
        total[s.symbols + i] = weight;
      }
    }
  }

  __device__ void gate(const GpuWeights& f, const FlowBlock& s, int t) {
    const int h = f.sizes.hidden, a = f.sizes.attention;
    for (int v = warp(); v < memory_.speaking; v += kWarps) {
      if (gridDim.x - 1 - v % gridDim.x != blockIdx.x) continue;
      const int b = memory_.utterance[v];
      float sum = 0.0F;
      for (int i = lane(); i < h; i += 32)
        sum += f.gate[i] * shared_value(s.hidden + static_cast<std::size_t>(b) * h + i);
      for (int i = lane(); i < a; i += 32) {
        sum += f.gate[h + i] * shared_value(s.context + static_cast<std::size_t>(b) * a + i);
      }
      sum = warp_sum(sum);
      if (lane() == 0) s.gate[static_cast<std::size_t>(t) * s.batch + b] = sigmoid(sum + f.gate[h + a]);
    }
  }

  // Rows of log_s and b alternate, and a warp has both: rows are taken in pairs from an even one on.
  __device__ void affine(const GpuWeights& f, const FlowBlock& s, int t, Part channels) {
    const int mels = f.sizes.mels;
    pairs(f.affine, {2 * channels.first, 2 * channels.last}, [&](int v, int row, float log_s, float b) {
      const int utterance = memory_.utterance[v], channel = row / 2;
      const std::size_t place = (static_cast<std::size_t>(t) * s.batch + utterance) * mels + channel;
      const float found = (s.z[place] - (b + f.affine_bias[row + 1])) * exp_of(-(log_s + f.affine_bias[row]));
      s.mel[place] = found;
      s.last[static_cast<std::size_t>(utterance) * mels + channel] = found;
    });
  }

  __device__ void end_frame(const FlowBlock& s, int t) {
    if (blockIdx.x != 0) return;
    for (int v = threadIdx.x; v < memory_.speaking; v += kThreads) {
      const int b = memory_.utterance[v];
      const bool fires = s.gate && shared_value(s.gate + static_cast<std::size_t>(t) * s.batch + b) > s.thresholds[b];
      s.remaining[b] = fires ? 0 : __ldcg(s.remaining + b) - 1;
    }
  }

  // The block's writes are complete, then seen by all, before its arrival is.
  __device__ void arrive() {
    __syncthreads();
    target_ += gridDim.x;
    if (threadIdx.x == 0) {
      __threadfence();
      atomicAdd(arrived_, 1U);
    }
  }
  __device__ void wait() {
    if (threadIdx.x == 0) {
      while (*static_cast<volatile unsigned*>(arrived_) < target_) {
      }
      __threadfence();
    }
    __syncthreads();
  }
  __device__ void barrier() {
    arrive();
    wait();
  }

 private:
  static constexpr int kChannels = 8;  // of the context, computed at once

  __device__ static int warp() { return static_cast<int>(threadIdx.x) / 32; }
  __device__ static int lane() { return static_cast<int>(threadIdx.x) % 32; }

  // How the weight of a symbol is computed from its score, or where it is given.
  struct Weighing {
    const float *scores, *prior, *imposed;
    float highest, factor;
    double prior_factor;

    __device__ double guided(int i) const {
      constexpr double kEpsilon = 1e-20;
      return (exp_of(shared_value(scores + i) - highest) * factor + kEpsilon) * (prior[i] + kEpsilon);
    }
    __device__ float of(int i) const {
      if (imposed) return imposed[i];
      if (prior) return static_cast<float>(guided(i) * prior_factor);
      return exp_of(shared_value(scores + i) - highest) * factor;
    }
  };

  __device__ static Weighing weighing_of(const FlowBlock& s, int b, int symbols, std::size_t row) {
    Weighing w{s.scores + static_cast<std::size_t>(b) * s.symbols, nullptr, nullptr, 0.0F, 0.0F, 0.0};
    if (s.imposed && s.is_imposed[b]) {
      w.imposed = s.imposed + row;
      return w;
    }
    float highest = -3.4e38F, total = 0.0F;
    for (int i = lane(); i < symbols; i += 32) highest = fmaxf(highest, shared_value(w.scores + i));
    w.highest = warp_largest(highest);
    for (int i = lane(); i < symbols; i += 32) total += exp_of(shared_value(w.scores + i) - w.highest);
    w.factor = 1.0F / warp_sum(total);
    if (!s.prior) return w;
    int others = 0;  // than ones: a prior of ones says nothing
    for (int i = lane(); i < symbols; i += 32) others += s.prior[row + i] != 1.0F;
    if (warp_sum(others) == 0) return w;
    w.prior = s.prior + row;
    double all = 0.0;
    for (int i = lane(); i < symbols; i += 32) all += w.guided(i);
    w.prior_factor = 1.0 / warp_sum(all);
    return w;
  }

  // Copy this block's rows of every int8 matrix into shared memory.
  __device__ void keep_weights() {
    int offset = 0;
    for (int slot = 0; slot < f_.slot_count; ++slot) {
      const GpuMatrix& m = f_.slots[slot];
      const int units = f_.slot_units[slot];
      const Part own = part(m.rows / units, 1);
      const int bytes = (own.last - own.first) * units * m.stride;
      const uint4* from =
          reinterpret_cast<const uint4*>(m.values + static_cast<std::size_t>(own.first) * units * m.stride);
      uint4* to = reinterpret_cast<uint4*>(resident_ + offset);
      for (int i = threadIdx.x; i < bytes / 16; i += kThreads) to[i] = from[i];
      if (threadIdx.x == 0) memory_.offset[slot] = offset - own.first * units * m.stride;
      offset += bytes;
    }
    __syncthreads();
  }

  __device__ const std::uint8_t* row_of(const GpuMatrix& m, int row) const {
    if (f_.resident && m.slot >= 0) return resident_ + memory_.offset[m.slot] + row * m.stride;
    return m.values + static_cast<std::size_t>(row) * m.stride *
                          (m.numbers == Numbers::fp16   ? 2
                           : m.numbers == Numbers::fp32 ? 4
                                                        : 1);
  }

  // The vectors in two digits: a warp for each.
  __device__ void quantize() {
    __syncthreads();
    for (int v = warp(); v < memory_.speaking; v += kWarps) {
      const float* x = vectors_ + v * f_.widest;
      float largest = 0.0F;
      for (int k = lane(); k < width_; k += 32) largest = fmaxf(largest, fabsf(x[k]));
      largest = warp_largest(largest);
      const float scale = largest > 0.0F ? largest / kDigitLevels : 1.0F, inverse = 1.0F / scale;
      std::uint8_t* high = digits_ + 2 * v * f_.widest;
      for (int k = lane(); k < f_.widest; k += 32) {
        const float level = fminf(fmaxf(x[k] * inverse, -kDigitLevels), kDigitLevels);
        const int whole = __float2int_rn(level) + 256 * kDigitZero;
        high[k] = static_cast<std::uint8_t>(whole >> 8);
        high[f_.widest + k] = static_cast<std::uint8_t>(whole & 255);
      }
      if (lane() == 0) memory_.scale[v] = scale;
    }
    in_digits_ = true;
    __syncthreads();
  }

  // write(v, row, sum) once for each vector and row.
  template <class F>
  __device__ void product(const GpuMatrix& m, Part rows, F&& write) {
    pairs(m, rows, [&](int v, int row, float first, float second) {
      write(v, row, first);
      if (row + 1 < rows.last) write(v, row + 1, second);
    });
  }

  // write(v, row, sum, sum of row + 1) for every second row; the second is of no use at the end of an odd number.
  template <class F>
  __device__ void pairs(const GpuMatrix& m, Part rows, F&& write) {
    if (m.numbers == Numbers::int8 && !in_digits_) quantize();
    const int speaking = memory_.speaking;
    if (speaking == 1) {
      pairs_of<1>(m, rows, 0, write);
    } else if (speaking == 2) {
      pairs_of<2>(m, rows, 0, write);
    } else {
      for (int v = 0; v < speaking; v += 4) pairs_of<4>(m, rows, v, write);
    }
  }

  // For vectors v0 to v0 + V, of which those past the last are computed from what lies there and not written.
  template <int V, class F>
  __device__ void pairs_of(const GpuMatrix& m, Part rows, int v0, F& write) {
    for (int row = rows.first + kTogether * warp(); row < rows.last; row += kTogether * kWarps) {
      const std::uint8_t* first = row_of(m, row);
      const std::uint8_t* second = row + 1 < rows.last ? row_of(m, row + 1) : first;
      float sums[kTogether][V];
      if (m.numbers == Numbers::int8) {
        int8_sums<V>(m, row, rows.last, first, second, v0, sums);
      } else if (m.numbers == Numbers::fp16) {
        float_sums<V, __half>(m, first, second, v0, sums);
      } else {
        float_sums<V, float>(m, first, second, v0, sums);
      }
      for (int v = 0; v < V; ++v) {
        if (lane() == v && v0 + v < memory_.speaking) write(v0 + v, row, sums[0][v], sums[1][v]);
      }
    }
  }

  template <int V, class Number>
  __device__ void float_sums(const GpuMatrix& m, const std::uint8_t* first, const std::uint8_t* second, int v0,
                             float (&sums)[kTogether][V]) const {
    constexpr int kEach = 16 / sizeof(Number);  // numbers in 16 bytes
    for (int v = 0; v < V; ++v) sums[0][v] = sums[1][v] = 0.0F;
    for (int k = kEach * lane(); k < m.stride; k += 32 * kEach) {
      float a[kEach], b[kEach];
      widen(reinterpret_cast<const Number*>(first) + k, a);
      widen(reinterpret_cast<const Number*>(second) + k, b);
      for (int v = 0; v < V; ++v) {
        const float4* x = reinterpret_cast<const float4*>(vectors_ + (v0 + v) * f_.widest + k);
        for (int q = 0; q < kEach / 4; ++q) {
          const float4 four = x[q];
          sums[0][v] += a[4 * q] * four.x + a[4 * q + 1] * four.y + a[4 * q + 2] * four.z + a[4 * q + 3] * four.w;
          sums[1][v] += b[4 * q] * four.x + b[4 * q + 1] * four.y + b[4 * q + 2] * four.z + b[4 * q + 3] * four.w;
        }
      }
    }
    for (int v = 0; v < V; ++v) {
      sums[0][v] = warp_sum(sums[0][v]);
      sums[1][v] = warp_sum(sums[1][v]);
    }
  }

  __device__ static void widen(const float* from, float (&to)[4]) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    to[0] = four.x, to[1] = four.y, to[2] = four.z, to[3] = four.w;
  }
  __device__ static void widen(const __half* from, float (&to)[8]) {
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
    for (int i = 0; i < 4; ++i) {
      __half2 two;
      memcpy(&two, &words[i], sizeof two);
      const float2 both = __half22float2(two);
      to[2 * i] = both.x;
      to[2 * i + 1] = both.y;
    }
  }

  template <int V>
  __device__ void int8_sums(const GpuMatrix& m, int row, int last, const std::uint8_t* first,
                            const std::uint8_t* second, int v0, float (&sums)[kTogether][V]) const {
    int high[kTogether][V] = {}, low[kTogether][V] = {};
    for (int k = 16 * lane(); k < m.stride; k += 32 * 16) {
      const uint4 a = *reinterpret_cast<const uint4*>(first + k), b = *reinterpret_cast<const uint4*>(second + k);
      const unsigned wa[4] = {a.x, a.y, a.z, a.w}, wb[4] = {b.x, b.y, b.z, b.w};
      for (int v = 0; v < V; ++v) {
        const std::uint8_t* digits = digits_ + 2 * (v0 + v) * f_.widest + k;
        const uint4 h = *reinterpret_cast<const uint4*>(digits);
        const uint4 l = *reinterpret_cast<const uint4*>(digits + f_.widest);
        const unsigned hs[4] = {h.x, h.y, h.z, h.w}, ls[4] = {l.x, l.y, l.z, l.w};
        for (int q = 0; q < 4; ++q) {
          high[0][v] = dot_four(hs[q], static_cast<int>(wa[q]), high[0][v]);
          low[0][v] = dot_four(ls[q], static_cast<int>(wa[q]), low[0][v]);
          high[1][v] = dot_four(hs[q], static_cast<int>(wb[q]), high[1][v]);
          low[1][v] = dot_four(ls[q], static_cast<int>(wb[q]), low[1][v]);
        }
      }
    }
    for (int r = 0; r < kTogether; ++r) {
      const int which = min(row + r, last - 1), zero = kDigitZero * m.sums[which];
      for (int v = 0; v < V; ++v) {
        const int h = warp_sum(high[r][v]) - zero, l = warp_sum(low[r][v]);
        const float scale = m.scales[which] * memory_.scale[min(v0 + v, kMostBatch - 1)];
        sums[r][v] = (256.0F * static_cast<float>(h) + static_cast<float>(l)) * scale;
      }
    }
  }

  const GpuWeights& f_;
  unsigned* arrived_;
  BlockMemory& memory_;
  float* vectors_;        // (batch rounded up to 4, widest)
  std::uint8_t* digits_;  // the same in high digits, then low digits
  std::uint8_t* resident_;
  unsigned target_ = 0;
  int width_ = 0;
  bool in_digits_ = false;  // the same in all threads
};

__global__ void __launch_bounds__(kThreads, 1) decode_kernel(GpuWeights weights, FlowBlock block, unsigned* arrived) {
  extern __shared__ __align__(16) std::uint8_t memory[];
  __shared__ BlockMemory own;
  const std::size_t vectors = static_cast<std::size_t>((block.batch + 3) / 4 * 4) * weights.widest;
  float* floats = reinterpret_cast<float*>(memory);
  std::uint8_t* digits = memory + vectors * sizeof(float);
  Block worker(weights, arrived, own, floats, digits, digits + 2 * vectors);
  decode_frames(worker, weights, block);
}

}  // namespace

// --- host --------------------------------------------------------------------------------------------------------

struct GpuFlow::Parts {
  GpuWeights weights;
  std::vector<GpuBuffer<std::uint8_t>> values;
  std::vector<GpuBuffer<float>> floats;
  std::vector<GpuBuffer<std::int32_t>> sums;
  std::vector<GpuMatrix> slots;
  std::vector<int> slot_units;
  GpuBuffer<GpuMatrix> recurrent, late, slot_matrices;
  GpuBuffer<const float*> bias;
  GpuBuffer<int> units;
  int multiprocessors = 0, shared_memory = 0;

  GpuMatrix upload(const Matrix& m, int rows_together = 1) {
    if (m.rows == 0) return {};
    const Rows rows = unpack(m);
    GpuMatrix found;
    values.emplace_back(rows.values);
    found.values = values.back().data();
    found.numbers = rows.numbers;
    found.rows = rows.rows;
    found.columns = rows.columns;
    found.stride = rows.stride;
    if (rows.numbers == Numbers::int8) {
      found.scales = upload(rows.scales);
      sums.emplace_back(rows.sums);
      found.sums = sums.back().data();
      found.slot = static_cast<int>(slots.size());
      slots.push_back(found);
      slot_units.push_back(rows_together);
    }
    return found;
  }

  const float* upload(const std::vector<float>& numbers) {
    floats.emplace_back(numbers);
    return floats.back().data();
  }
  const float* upload(const Buffer<float>& numbers) {
    return numbers.empty() ? nullptr : upload(std::vector<float>(numbers.begin(), numbers.end()));
  }

  // Bytes of int8 weights that the block with the most of them has.
  std::size_t resident_bytes() const {
    std::size_t bytes = 0;
    for (std::size_t slot = 0; slot < slots.size(); ++slot) {
      const int units = slots[slot].rows / slot_units[slot], most = (units + multiprocessors - 1) / multiprocessors;
      bytes += static_cast<std::size_t>(most) * static_cast<std::size_t>(slot_units[slot]) *
               static_cast<std::size_t>(slots[slot].stride);
    }
    return bytes;
  }
};

GpuFlow::GpuFlow(const FlowWeights& f) : parts_(std::make_unique<Parts>()) {
  Parts& p = *parts_;
  int device = 0, cooperative = 0;
  check_cuda(cudaGetDevice(&device), "looking for a GPU");
  check_cuda(cudaDeviceGetAttribute(&cooperative, cudaDevAttrCooperativeLaunch, device), "asking the GPU");
  check_cuda(cudaDeviceGetAttribute(&p.multiprocessors, cudaDevAttrMultiProcessorCount, device), "asking the GPU");
  check_cuda(cudaDeviceGetAttribute(&p.shared_memory, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
             "asking the GPU");
  if (!cooperative) throw Fault(Kind::internal, "this GPU has no cooperative launches");
  const FlowSizes& n = f.sizes;
  if (n.filters * (2 * n.memory_reach + 1) > 8 * 64)
    throw bad_bundle("cumulative attention has more filters than the GPU takes");
  GpuWeights& w = p.weights;
  w.sizes = n;
  w.mel = p.upload(f.mel);
  w.early = p.upload(f.early, 4);
  w.query = p.upload(f.query);
  w.affine = p.upload(f.affine);
  w.key = p.upload(f.key);
  std::vector<GpuMatrix> recurrent, late;
  std::vector<const float*> bias;
  for (int l = 0; l <= n.layers; ++l) {
    recurrent.push_back(p.upload(f.recurrent[l], 4));
    bias.push_back(p.upload(f.bias[l]));
    if (l < n.layers) late.push_back(p.upload(f.late[l], 4));
  }
  for (int i = 0; i < 2; ++i) {
    w.dense[i] = p.upload(f.dense[i]);
    w.dense_bias[i] = p.upload(f.dense_bias[i]);
  }
  p.recurrent = GpuBuffer<GpuMatrix>(recurrent);
  p.late = GpuBuffer<GpuMatrix>(late);
  p.bias = GpuBuffer<const float*>(bias);
  p.slot_matrices = GpuBuffer<GpuMatrix>(p.slots);
  p.units = GpuBuffer<int>(p.slot_units);
  w.recurrent = p.recurrent.data();
  w.late = p.late.data();
  w.bias = p.bias.data();
  w.slots = p.slot_matrices.data();
  w.slot_units = p.units.data();
  w.slot_count = static_cast<int>(p.slots.size());
  w.energy = p.upload(f.energy);
  w.affine_bias = p.upload(f.affine_bias);
  w.gate = p.upload(f.gate);
  w.filter_weights = p.upload(f.filter_weights);
  w.filter_bias = p.upload(f.filter_bias);
  w.memory_weights = p.upload(f.memory_weights);
  w.memory_bias = p.upload(f.memory_bias);
  w.widest = round_up(std::max({n.mels, n.hidden, n.attention}), kRowMultiple);
}

GpuFlow::~GpuFlow() = default;

struct GpuFlowRun::State {
  FlowBlock block;
  GpuWeights weights;
  GpuStream stream;
  GpuBuffer<float> floats, z, prior, imposed, mel, attention, gate;
  GpuBuffer<std::int32_t> texts, remaining;
  GpuBuffer<std::uint8_t> is_imposed;
  GpuBuffer<unsigned> arrived{1};
  int shared_memory = 0;
  cudaEvent_t started = nullptr, ended = nullptr;
  float milliseconds = 0.0F;

  State() {
    check_cuda(cudaEventCreate(&started), "making an event");
    check_cuda(cudaEventCreate(&ended), "making an event");
  }
  ~State() {
    if (started) cudaEventDestroy(started);
    if (ended) cudaEventDestroy(ended);
  }

  // Make room for `count` numbers, and copy them where they are given.
  const float* fill(GpuBuffer<float>& buffer, const float* from, std::size_t count) {
    if (!from) return nullptr;
    if (buffer.size() < count) buffer = GpuBuffer<float>(count);
    check_cuda(cudaMemcpyAsync(buffer.data(), from, count * sizeof(float), cudaMemcpyHostToDevice, stream), "a copy");
    return buffer.data();
  }
  float* clear(GpuBuffer<float>& buffer, std::size_t count) {
    if (buffer.size() < count) buffer = GpuBuffer<float>(count);
    check_cuda(cudaMemsetAsync(buffer.data(), 0, count * sizeof(float), stream), "clearing memory");
    return buffer.data();
  }
  void fetch(float* to, const GpuBuffer<float>& buffer, std::size_t count) {
    check_cuda(cudaMemcpyAsync(to, buffer.data(), count * sizeof(float), cudaMemcpyDeviceToHost, stream), "a copy");
  }
};

GpuFlowRun::GpuFlowRun(const GpuFlow& flow, const FlowInputs& inputs) : flow_(flow), state_(std::make_unique<State>()) {
  State& s = *state_;
  const GpuFlow::Parts& p = flow.parts();
  const FlowSizes& n = p.weights.sizes;
  const auto batch = static_cast<std::size_t>(inputs.batch), symbols = static_cast<std::size_t>(inputs.symbols);
  const auto hidden = static_cast<std::size_t>(n.hidden), attention = static_cast<std::size_t>(n.attention);
  const auto memory = static_cast<std::size_t>(n.filters ? n.memory : 0),
             lstms = static_cast<std::size_t>(1 + n.layers);

  const auto cut = [&](float* from) {
    const float* start = from;
    const auto take = [&](std::size_t size) {
      float* found = from;
      from += (size + 15) / 16 * 16;
      return found;
    };
    FlowBlock& b = s.block;
    b.last = take(batch * static_cast<std::size_t>(n.mels));
    b.hidden = take(lstms * batch * hidden);
    b.cell = take(lstms * batch * hidden);
    b.pending = take(lstms * batch * 4 * hidden);
    b.alignment = memory ? take(batch * 2 * symbols) : nullptr;
    b.query = take(batch * attention);
    b.scores = take(batch * symbols);
    b.context = take(batch * attention);
    b.dense[0] = take(batch * hidden);
    b.dense[1] = take(batch * hidden);
    b.gated_memory = take(batch * symbols * memory);
    b.gated_keys = take(memory ? batch * symbols * attention : 0);
    b.memory = take(batch * symbols * memory);
    b.keys = take(memory ? 0 : batch * symbols * attention);
    b.values = take(batch * symbols * attention);
    b.temperatures = take(batch);
    b.thresholds = take(batch);
    return static_cast<std::size_t>(from - start);
  };
  float origin = 0.0F;
  s.floats = GpuBuffer<float>(cut(&origin));
  cut(s.floats.data());
  const auto copy = [](const float* to, const float* from, std::size_t count) {
    if (!from || !count) return;
    check_cuda(cudaMemcpy(const_cast<float*>(to), from, count * sizeof(float), cudaMemcpyHostToDevice), "a copy");
  };
  copy(s.block.memory, inputs.memory, batch * symbols * memory);
  copy(s.block.keys, inputs.keys, memory ? 0 : batch * symbols * attention);
  copy(s.block.values, inputs.values, batch * symbols * attention);
  copy(s.block.temperatures, inputs.temperatures, batch);
  copy(s.block.thresholds, inputs.thresholds, batch);
  std::vector<const float*> bias(lstms);
  check_cuda(cudaMemcpy(bias.data(), p.weights.bias, lstms * sizeof(float*), cudaMemcpyDeviceToHost), "a copy");
  for (std::size_t l = 0; l < lstms; ++l) {
    for (std::size_t b = 0; b < batch; ++b) {
      float* to = s.block.pending + (l * batch + b) * 4 * hidden;
      check_cuda(cudaMemcpy(to, bias[l], 4 * hidden * sizeof(float), cudaMemcpyDeviceToDevice), "a copy");
    }
  }
  check_cuda(finish_uploads(), "a copy");
  s.texts = GpuBuffer<std::int32_t>(inputs.texts, batch);
  s.remaining = GpuBuffer<std::int32_t>(inputs.frames, batch);
  s.is_imposed = inputs.imposed ? GpuBuffer<std::uint8_t>(inputs.imposed, batch) : GpuBuffer<std::uint8_t>(batch);
  s.block.batch = inputs.batch;
  s.block.symbols = inputs.symbols;
  s.block.attention_width = n.attention;
  s.block.texts = s.texts.data();
  s.block.remaining = s.remaining.data();
  s.block.is_imposed = s.is_imposed.data();

  s.weights = p.weights;
  const int vectors = (inputs.batch + 3) / 4 * 4 * p.weights.widest;
  s.shared_memory = vectors * 6;  // floats, and two digits
  const std::size_t with_weights = static_cast<std::size_t>(s.shared_memory) + p.resident_bytes();
  const auto most = static_cast<std::size_t>(p.shared_memory) - sizeof(BlockMemory);
  s.weights.resident = s.weights.slot_count > 0 && s.weights.slot_count <= kMostSlots && with_weights <= most;
  if (s.weights.resident) s.shared_memory = static_cast<int>(with_weights);
  if (static_cast<std::size_t>(s.shared_memory) > most) {
    throw Fault(Kind::memory, "the batch's vectors do not fit this GPU's shared memory: take fewer utterances");
  }
  check_cuda(cudaFuncSetAttribute(decode_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, s.shared_memory),
             "asking for shared memory");
  int blocks = 0;
  check_cuda(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, decode_kernel, kThreads,
                                                           static_cast<std::size_t>(s.shared_memory)),
             "asking the GPU");
  if (blocks < 1) throw Fault(Kind::internal, "the decoder's kernel does not fit this GPU");
}

GpuFlowRun::~GpuFlowRun() = default;

void GpuFlowRun::run(const FlowFrames& frames) {
  State& s = *state_;
  const FlowSizes& n = s.weights.sizes;
  const auto rows = static_cast<std::size_t>(frames.count) * static_cast<std::size_t>(s.block.batch);
  const std::size_t mels = rows * static_cast<std::size_t>(n.mels),
                    weights = rows * static_cast<std::size_t>(s.block.symbols);
  FlowBlock block = s.block;
  block.frames = frames.count;
  block.z = s.fill(s.z, frames.z, mels);
  block.prior = s.fill(s.prior, frames.prior, weights);
  block.imposed = s.fill(s.imposed, frames.imposed, weights);
  block.mel = s.clear(s.mel, mels);
  block.attention = s.clear(s.attention, weights);
  block.gate = n.gate ? s.clear(s.gate, rows) : nullptr;
  unsigned* arrived = s.arrived.data();
  check_cuda(cudaMemsetAsync(arrived, 0, sizeof *arrived, s.stream), "clearing memory");
  void* arguments[] = {&s.weights, &block, &arrived};
  check_cuda(cudaEventRecord(s.started, s.stream), "an event");
  check_cuda(
      cudaLaunchCooperativeKernel(decode_kernel, dim3(static_cast<unsigned>(flow_.parts().multiprocessors)),
                                  dim3(kThreads), arguments, static_cast<std::size_t>(s.shared_memory), s.stream),
      "a launch");
  check_cuda(cudaEventRecord(s.ended, s.stream), "an event");
  s.fetch(frames.mel, s.mel, mels);
  s.fetch(frames.attention, s.attention, weights);
  if (block.gate && frames.gate) s.fetch(frames.gate, s.gate, rows);
  s.stream.wait();
  check_cuda(cudaEventElapsedTime(&s.milliseconds, s.started, s.ended), "an event");
}

float GpuFlowRun::milliseconds() const { return state_->milliseconds; }

bool GpuFlowRun::resident() const { return state_->weights.resident; }

}  // namespace fte
