#include <cuda_fp16.h>
#include <mma.h>

#include <algorithm>
#include <list>
#include <vector>

#include "elementary.h"
#include "gpu_vocoder.h"
#include "layout.h"
#include "memory.h"

namespace fte {
namespace {

using namespace nvcuda;

constexpr int kFragment = 16;                // rows, columns and depth of a tensor core's product
constexpr int kWarps = 4;                    // of a block, each with 16 groups
constexpr int kGroups = kWarps * kFragment;  // groups of a block
constexpr int kColumns = 2 * kFragment;      // channels of a block
constexpr int kRowThreads = 256;             // of kernels with a thread for each value
constexpr int kLengths = 8;                  // graphs that are kept
constexpr float kMostHalf = 65504.0F;

using RowFragment = wmma::fragment<wmma::matrix_a, kFragment, kFragment, kFragment, __half, wmma::row_major>;
using ColumnFragment = wmma::fragment<wmma::matrix_b, kFragment, kFragment, kFragment, __half, wmma::col_major>;
using Sums = wmma::fragment<wmma::accumulator, kFragment, kFragment, kFragment, float>;

// A layer's weights, rows of outputs: a column of the product each, so that they are read as they stand.
struct GpuLayer {
  int width = 0, conditions = 0, taps = 0, dilation = 0, outputs = 0;
  bool last = false;
  const __half *tanh = nullptr, *sigmoid = nullptr;                       // (taps, width, width)
  const __half *condition_tanh = nullptr, *condition_sigmoid = nullptr;   // (width, conditions)
  const __half* residual = nullptr;                                       // (width, width)
  const float *bias = nullptr, *residual_bias = nullptr, *end = nullptr;  // (2, width), (width), (outputs, width)
};

struct GpuVocoderFlow {
  int channels = 0;
  const float *start = nullptr, *start_bias = nullptr, *end_bias = nullptr, *mixing = nullptr;
  std::vector<GpuLayer> layers;
};

__device__ __half narrow(float value) { return __float2half_rn(fminf(fmaxf(value, -kMostHalf), kMostHalf)); }

// sums += rows (16, depth) times weights (16 outputs, depth).
__device__ void add_product(Sums& sums, const __half* rows, int row_stride, const __half* weights, int depth) {
  RowFragment a;
  ColumnFragment b;
  for (int k = 0; k < depth; k += kFragment) {
    wmma::load_matrix_sync(a, rows + k, static_cast<unsigned>(row_stride));
    wmma::load_matrix_sync(b, weights + k, static_cast<unsigned>(depth));
    wmma::mma_sync(sums, a, b, sums);
  }
}

// tanh * sigmoid of dilated convolution, conditioning and bias: x (rows, width), condition (G, conditions) -> gated
// (G, width). A warp has both halves of its 16 groups and 32 channels, so that the gate is its own affair.
__global__ void __launch_bounds__(32 * kWarps)
    gate_kernel(GpuLayer l, const __half* x, const __half* condition, __half* gated) {
  __shared__ __align__(32) float halves[kWarps][2][kFragment * kFragment];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int group = static_cast<int>(blockIdx.x) * kGroups + warp * kFragment;
  const int columns = min(kColumns, l.width - static_cast<int>(blockIdx.y) * kColumns);
  for (int c = 0; c < columns; c += kFragment) {
    const int channel = static_cast<int>(blockIdx.y) * kColumns + c;
    Sums tanhs, sigmoids;
    wmma::fill_fragment(tanhs, 0.0F);
    wmma::fill_fragment(sigmoids, 0.0F);
    const std::size_t own = static_cast<std::size_t>(channel) * l.width;
    for (int tap = 0; tap < l.taps; ++tap) {
      const __half* rows = x + static_cast<std::ptrdiff_t>(group + (tap - l.taps / 2) * l.dilation) * l.width;
      const std::size_t of_tap = static_cast<std::size_t>(tap) * l.width * l.width + own;
      add_product(tanhs, rows, l.width, l.tanh + of_tap, l.width);
      add_product(sigmoids, rows, l.width, l.sigmoid + of_tap, l.width);
    }
    const __half* rows = condition + static_cast<std::size_t>(group) * l.conditions;
    const std::size_t of_condition = static_cast<std::size_t>(channel) * l.conditions;
    add_product(tanhs, rows, l.conditions, l.condition_tanh + of_condition, l.conditions);
    add_product(sigmoids, rows, l.conditions, l.condition_sigmoid + of_condition, l.conditions);
    wmma::store_matrix_sync(halves[warp][0], tanhs, kFragment, wmma::mem_row_major);
    wmma::store_matrix_sync(halves[warp][1], sigmoids, kFragment, wmma::mem_row_major);
    __syncwarp();
    for (int i = lane; i < kFragment * kFragment; i += 32) {
      const int to = channel + i % kFragment;
      const float value = gate_of(halves[warp][0][i] + l.bias[to], halves[warp][1][i] + l.bias[l.width + to]);
      gated[static_cast<std::size_t>(group + i / kFragment) * l.width + to] = __float2half_rn(value);
    }
    __syncwarp();  // before the halves are written again
  }
}

// x += residual product of what was gated: (G, width), and its fp16 copy for the next layer. Groups from `groups` on
// stay zero, as the padding of a convolution is.
__global__ void __launch_bounds__(32 * kWarps)
    residual_kernel(GpuLayer l, const __half* gated, int groups, float* x, __half* narrow_x) {
  __shared__ __align__(32) float tile[kWarps][kFragment * kFragment];
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int group = static_cast<int>(blockIdx.x) * kGroups + warp * kFragment;
  const int columns = min(kColumns, l.width - static_cast<int>(blockIdx.y) * kColumns);
  for (int c = 0; c < columns; c += kFragment) {
    const int channel = static_cast<int>(blockIdx.y) * kColumns + c;
    Sums sums;
    wmma::fill_fragment(sums, 0.0F);
    add_product(sums, gated + static_cast<std::size_t>(group) * l.width, l.width,
                l.residual + static_cast<std::size_t>(channel) * l.width, l.width);
    wmma::store_matrix_sync(tile[warp], sums, kFragment, wmma::mem_row_major);
    __syncwarp();
    for (int i = lane; i < kFragment * kFragment; i += 32) {
      const int row = group + i / kFragment, to = channel + i % kFragment;
      if (row >= groups) continue;
      const std::size_t place = static_cast<std::size_t>(row) * l.width + to;
      const float moved = x[place] + tile[warp][i] + l.residual_bias[to];
      x[place] = moved;
      narrow_x[place] = narrow(moved);
    }
    __syncwarp();
  }
}

// out (G, group) += what the layer adds to WN's output; a warp for each group.
__global__ void end_kernel(GpuLayer l, const __half* gated, int groups, int group_size, float* out) {
  const int group = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x) / 32,
            lane = static_cast<int>(threadIdx.x) % 32;
  if (group >= groups) return;
  for (int e = 0; e < l.outputs; ++e) {
    float sum = 0.0F;
    for (int c = lane; c < l.width; c += 32) {
      sum += l.end[static_cast<std::size_t>(e) * l.width + c] *
             __half2float(gated[static_cast<std::size_t>(group) * l.width + c]);
    }
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(0xffffffffU, sum, step);
    if (lane == 0) out[static_cast<std::size_t>(group) * group_size + e] += sum;
  }
}

// WN's first 1x1 convolution, and the start of its output; a thread for each group and channel.
__global__ void start_kernel(const float* weight, const float* bias, const float* end_bias, int width, int channels,
                             int groups, int group_size, const float* audio, float* x, __half* narrow_x, float* out) {
  const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= static_cast<long long>(groups) * width) return;
  const int group = static_cast<int>(i / width), c = static_cast<int>(i % width), half = channels / 2;
  const float* first = audio + static_cast<std::size_t>(group) * group_size + group_size - channels;
  float sum = bias[c];
  for (int k = 0; k < half; ++k) sum += weight[c * half + k] * first[k];
  x[i] = sum;
  narrow_x[i] = narrow(sum);
  for (int e = c; e < channels; e += width) out[static_cast<std::size_t>(group) * group_size + e] = end_bias[e];
}

// The affine coupling and the 1x1 convolution, both backwards; a thread for each group.
__global__ void undo_kernel(const float* mixing, int channels, int groups, int group_size, const float* out,
                            float* audio) {
  const int group = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x), half = channels / 2;
  if (group >= groups) return;
  float* own = audio + static_cast<std::size_t>(group) * group_size + group_size - channels;
  const float* wn = out + static_cast<std::size_t>(group) * group_size;
  float before[64];
  for (int i = 0; i < half; ++i) {
    before[i] = own[i];
    before[half + i] = (own[half + i] - wn[i]) * exp_of(-wn[half + i]);
  }
  for (int i = 0; i < channels; ++i) {
    float sum = 0.0F;
    for (int k = 0; k < channels; ++k) sum += mixing[i * channels + k] * before[k];
    own[i] = sum;
  }
}

// The conditioning: windows of mel frames (T, depth) times weights (depth, rows) -> (T, rows) by groups, each filled up
// to `stride`. A thread for each row, 8 frames at once.
constexpr int kFramesTogether = 8;
__global__ void upsample_kernel(const float* weights, const float* bias, int rows, int depth, const float* windows,
                                int frames, int conditions, int stride, __half* condition) {
  extern __shared__ float window[];  // (8, depth)
  const int first = static_cast<int>(blockIdx.y) * kFramesTogether,
            row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  for (int i = static_cast<int>(threadIdx.x); i < kFramesTogether * depth; i += static_cast<int>(blockDim.x)) {
    window[i] = first + i / depth < frames ? windows[static_cast<std::size_t>(first) * depth + i] : 0.0F;
  }
  __syncthreads();
  if (row >= rows) return;
  float sums[kFramesTogether] = {};
  for (int k = 0; k < depth; ++k) {
    const float weight = weights[static_cast<std::size_t>(k) * rows + row];
    for (int f = 0; f < kFramesTogether; ++f) sums[f] += weight * window[f * depth + k];
  }
  for (int f = 0; f < kFramesTogether && first + f < frames; ++f) {
    const std::size_t group = static_cast<std::size_t>(first + f) * (rows / conditions) + row / conditions;
    condition[group * stride + row % conditions] = narrow(sums[f] + bias[row]);
  }
}

unsigned blocks_of(long long count, int each) { return static_cast<unsigned>((count + each - 1) / each); }

}  // namespace

struct GpuVocoder::State {
  // Everything for one length of chunk.
  struct Length {
    int frames = 0, groups = 0;
    GpuBuffer<float> windows, audio, x, out;
    GpuBuffer<__half> condition, gated, narrow_x[2];
    cudaGraphExec_t graph = nullptr;

    Length() = default;
    Length(const Length&) = delete;
    Length& operator=(const Length&) = delete;
    ~Length() {
      if (graph) cudaGraphExecDestroy(graph);
    }
  };

  int mels = 0, group = 0, phases = 0, taps = 0, first_channels = 0, width = 0, reach = 0, condition_stride = 0,
      rows = 0;
  std::vector<GpuVocoderFlow> flows;
  const float *upsample = nullptr, *upsample_bias = nullptr;
  std::vector<GpuBuffer<float>> floats;
  std::vector<GpuBuffer<__half>> halves;
  std::list<Length> lengths;  // the one used last comes first
  GpuStream stream;
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

  // fp32 numbers (rows, columns) of a packed matrix.
  static std::vector<float> values_of(const Matrix& m) {
    const Rows rows = unpack(m);
    std::vector<float> found;
    for (int row = 0; row < rows.rows; ++row) {
      const auto* from = reinterpret_cast<const float*>(rows.values.data()) +
                         static_cast<std::size_t>(row) * static_cast<std::size_t>(rows.stride);
      found.insert(found.end(), from, from + rows.columns);
    }
    return found;
  }

  const float* upload(const std::vector<float>& values) {
    floats.emplace_back(values);
    return floats.back().data();
  }
  const float* upload(const Buffer<float>& values, std::size_t count) {
    return upload(std::vector<float>(values.begin(), values.begin() + std::min(count, values.size())));
  }

  // Matrices after each other as fp16, each (rows filled up to `to_rows`, columns filled up to `to_columns`).
  const __half* upload(const std::vector<const Matrix*>& matrices, int to_rows, int to_columns) {
    std::vector<__half> found;
    for (const Matrix* m : matrices) {
      const std::vector<float> values = values_of(*m);
      const std::size_t start = found.size();
      found.resize(start + static_cast<std::size_t>(to_rows) * static_cast<std::size_t>(to_columns),
                   __float2half(0.0F));
      for (int row = 0; row < m->rows; ++row) {
        for (int k = 0; k < m->columns; ++k) {
          found[start + static_cast<std::size_t>(row) * static_cast<std::size_t>(to_columns) +
                static_cast<std::size_t>(k)] =
              __float2half(values[static_cast<std::size_t>(row) * static_cast<std::size_t>(m->columns) +
                                  static_cast<std::size_t>(k)]);
        }
      }
    }
    halves.emplace_back(found);
    return halves.back().data();
  }

  GpuLayer layer_of(const WnLayer& l, int channels) {
    GpuLayer g;
    g.width = l.width;
    g.conditions = condition_stride;
    g.taps = l.taps;
    g.dilation = l.dilation;
    g.outputs = channels;
    g.last = l.last;
    std::vector<const Matrix*> tanhs, sigmoids;
    for (int tap = 0; tap < l.taps; ++tap) {
      tanhs.push_back(&l.tanh[tap]);
      sigmoids.push_back(&l.sigmoid[tap]);
    }
    g.tanh = upload(tanhs, l.width, l.width);
    g.sigmoid = upload(sigmoids, l.width, l.width);
    g.condition_tanh = upload({&l.condition_tanh}, l.width, condition_stride);
    g.condition_sigmoid = upload({&l.condition_sigmoid}, l.width, condition_stride);
    g.bias = upload(l.bias, 2 * static_cast<std::size_t>(l.width));  // without centre it is the same in all phases
    if (!l.last) {
      g.residual = upload({&l.residual}, l.width, l.width);
      g.residual_bias = upload(l.residual_bias, static_cast<std::size_t>(l.width));
    }
    g.end = upload(values_of(l.end));
    reach = std::max(reach, l.taps / 2 * l.dilation);
    return g;
  }

  Length& length_of(int frames);
  void enqueue(const Length& now);
};

GpuVocoder::GpuVocoder(const VocoderWeights& v) : state_(std::make_unique<State>()) {
  if (v.quantized) throw bad_argument("the GPU's vocoder takes no int8 weights: open the voice in fp16 or fp32");
  State& s = *state_;
  s.mels = v.mels;
  s.group = v.group;
  s.phases = v.phases;
  s.taps = v.taps;
  s.first_channels = v.first_channels;
  s.condition_stride = round_up(v.conditions(), kFragment);
  s.rows = v.upsample.rows;
  s.width = v.flows[0].layers[0].width;
  const std::vector<float> upsample = State::values_of(v.upsample);
  std::vector<float> turned(upsample.size());
  const auto rows = static_cast<std::size_t>(v.upsample.rows), depth = static_cast<std::size_t>(v.upsample.columns);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t k = 0; k < depth; ++k) turned[k * rows + row] = upsample[row * depth + k];
  }
  s.upsample = s.upload(turned);
  s.upsample_bias = s.upload(v.upsample_bias, rows);
  for (const VocoderFlow& flow : v.flows) {
    GpuVocoderFlow g;
    g.channels = flow.channels;
    std::vector<float> start = State::values_of(flow.start);
    start.resize(static_cast<std::size_t>(s.width) * static_cast<std::size_t>(flow.channels / 2));
    g.start = s.upload(start);
    g.start_bias = s.upload(flow.start_bias, static_cast<std::size_t>(s.width));
    g.end_bias = s.upload(flow.end_bias, static_cast<std::size_t>(flow.channels));
    g.mixing = s.upload(flow.mixing, static_cast<std::size_t>(flow.channels * flow.channels));
    for (const WnLayer& layer : flow.layers) g.layers.push_back(s.layer_of(layer, flow.channels));
    s.flows.push_back(std::move(g));
  }
}

GpuVocoder::~GpuVocoder() = default;

// The buffers and the graph of a length, made where it has not been used lately.
GpuVocoder::State::Length& GpuVocoder::State::length_of(int frames) {
  for (auto each = lengths.begin(); each != lengths.end(); ++each) {
    if (each->frames != frames) continue;
    lengths.splice(lengths.begin(), lengths, each);
    return lengths.front();
  }
  if (lengths.size() == kLengths) lengths.pop_back();
  std::list<Length> made(1);  // kept once it is complete
  Length& now = made.front();
  now.frames = frames;
  now.groups = frames * phases;
  const auto filled = static_cast<std::size_t>(round_up(now.groups, kGroups)),
             padded = filled + 2 * static_cast<std::size_t>(reach);
  const auto w = static_cast<std::size_t>(width);
  now.windows = GpuBuffer<float>(static_cast<std::size_t>(frames) * static_cast<std::size_t>(taps * mels));
  now.audio = GpuBuffer<float>(static_cast<std::size_t>(now.groups) * static_cast<std::size_t>(group));
  now.out = GpuBuffer<float>(now.audio.size());
  now.x = GpuBuffer<float>(filled * w);
  now.gated = GpuBuffer<__half>(filled * w);
  now.condition = GpuBuffer<__half>(filled * static_cast<std::size_t>(condition_stride));
  for (GpuBuffer<__half>& each : now.narrow_x) each = GpuBuffer<__half>(padded * w);
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capturing");
  enqueue(now);
  cudaError_t error = cudaGetLastError();
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  if (error == cudaSuccess) error = ended;
  if (error == cudaSuccess) error = cudaGraphInstantiate(&now.graph, graph, 0);
  if (graph) cudaGraphDestroy(graph);
  check_cuda(error, "making a graph");
  lengths.splice(lengths.begin(), made);
  return lengths.front();
}

void GpuVocoder::State::enqueue(const Length& now) {
  const dim3 tiles(blocks_of(now.groups, kGroups), blocks_of(width, kColumns));
  const int depth = taps * mels, groups = now.groups;
  const std::ptrdiff_t origin = static_cast<std::ptrdiff_t>(reach) * width;
  __half* narrow_x[2] = {now.narrow_x[0].data() + origin, now.narrow_x[1].data() + origin};
  upsample_kernel<<<dim3(blocks_of(rows, kRowThreads), blocks_of(now.frames, kFramesTogether)), kRowThreads,
                    static_cast<std::size_t>(kFramesTogether * depth) * sizeof(float), stream>>>(
      upsample, upsample_bias, rows, depth, now.windows.data(), now.frames, mels * group, condition_stride,
      now.condition.data());
  for (auto flow = flows.rbegin(); flow != flows.rend(); ++flow) {
    start_kernel<<<blocks_of(static_cast<long long>(groups) * width, kRowThreads), kRowThreads, 0, stream>>>(
        flow->start, flow->start_bias, flow->end_bias, width, flow->channels, groups, group, now.audio.data(),
        now.x.data(), narrow_x[0], now.out.data());
    int turn = 0;
    for (const GpuLayer& l : flow->layers) {
      gate_kernel<<<tiles, 32 * kWarps, 0, stream>>>(l, narrow_x[turn], now.condition.data(), now.gated.data());
      end_kernel<<<blocks_of(32LL * groups, kRowThreads), kRowThreads, 0, stream>>>(l, now.gated.data(), groups, group,
                                                                                    now.out.data());
      if (l.last) break;
      residual_kernel<<<tiles, 32 * kWarps, 0, stream>>>(l, now.gated.data(), groups, now.x.data(), narrow_x[1 - turn]);
      turn = 1 - turn;
    }
    undo_kernel<<<blocks_of(groups, kRowThreads), kRowThreads, 0, stream>>>(flow->mixing, flow->channels, groups, group,
                                                                            now.out.data(), now.audio.data());
  }
}

void GpuVocoder::vocode(const float* mel, int frames, const float* noise, float* audio) {
  State& s = *state_;
  State::Length& now = s.length_of(frames);
  const auto mels = static_cast<std::size_t>(s.mels), group = static_cast<std::size_t>(s.group);
  std::vector<float> windows;
  windows.reserve(now.windows.size());
  for (int t = 0; t < frames; ++t) {
    for (int tap = 0; tap < s.taps; ++tap) {
      const float* row = mel + static_cast<std::size_t>(t - tap) * mels;
      for (std::size_t m = 0; m < mels; ++m) windows.push_back(t < tap ? 0.0F : row[m]);
    }
  }
  // Channels that enter later stand before those that are there, as in fte::vocode.
  const auto count = static_cast<std::size_t>(now.groups);
  const auto first = static_cast<std::size_t>(s.first_channels);
  for (std::size_t g = 0; g < count; ++g) {
    const float* from = noise + g * group;
    float* to = audio + g * group;
    std::size_t place = group - first, taken = first;
    std::copy_n(from, first, to + place);
    for (std::size_t k = s.flows.size() - 1; k > 0; --k) {
      const auto more = static_cast<std::size_t>(s.flows[k - 1].channels - s.flows[k].channels);
      place -= more;
      std::copy_n(from + taken, more, to + place);
      taken += more;
    }
  }
  check_cuda(cudaEventRecord(s.started, s.stream), "an event");
  check_cuda(cudaMemcpyAsync(now.windows.data(), windows.data(), windows.size() * sizeof(float), cudaMemcpyHostToDevice,
                             s.stream),
             "a copy");
  check_cuda(cudaMemcpyAsync(now.audio.data(), audio, count * group * sizeof(float), cudaMemcpyHostToDevice, s.stream),
             "a copy");
  check_cuda(cudaGraphLaunch(now.graph, s.stream), "a launch");
  check_cuda(cudaMemcpyAsync(audio, now.audio.data(), count * group * sizeof(float), cudaMemcpyDeviceToHost, s.stream),
             "a copy");
  check_cuda(cudaEventRecord(s.ended, s.stream), "an event");
  s.stream.wait();
  check_cuda(cudaEventElapsedTime(&s.milliseconds, s.started, s.ended), "an event");
}

float GpuVocoder::milliseconds() const { return state_->milliseconds; }

}  // namespace fte
