// Flow steps of the published size with random weights, in every precision and at several batches, beside the rate at
// which this machine reads as many bytes. Measure on a quiet machine: the workers wait for each other ten times a
// frame.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "decoder.h"

namespace {

constexpr int kMels = 80, kHidden = 1024, kAttention = 640, kLayers = 2;  // Flowtron as published
constexpr int kSymbols = 80, kFrames = 64, kTrials = 7;

std::size_t at(int i) { return static_cast<std::size_t>(i); }

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<float> random_values(std::size_t count, float scale) {
  static std::mt19937 generator(1);
  std::uniform_real_distribution<float> uniform(-scale, scale);
  std::vector<float> values(count);
  for (float& value : values) value = uniform(generator);
  return values;
}

fte::Matrix matrix(fte::Numbers numbers, int rows, int columns) {
  const std::vector<float> values = random_values(at(rows) * at(columns), 0.03F);
  if (numbers == fte::Numbers::int8) return fte::pack_quantized(values.data(), rows, columns);
  if (numbers == fte::Numbers::fp32) return fte::pack(numbers, values.data(), rows, columns);
  std::vector<std::uint16_t> halves(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {  // a bf16 is the upper half of a float; as an fp16 it is as large
    std::uint32_t bits = 0;
    std::copy_n(reinterpret_cast<const char*>(&values[i]), 4, reinterpret_cast<char*>(&bits));
    halves[i] = static_cast<std::uint16_t>(numbers == fte::Numbers::bf16 ? bits >> 16 : (bits >> 16 & 0x8000) | 0x2400);
  }
  return fte::pack(numbers, halves.data(), rows, columns);
}

fte::Buffer<float> floats(int count) {
  const std::vector<float> values = random_values(at(count), 0.03F);
  fte::Buffer<float> found(values.size());
  std::copy(values.begin(), values.end(), found.begin());
  return found;
}

fte::FlowWeights published_flow(fte::Numbers n) {
  fte::FlowWeights f;
  f.sizes.mels = kMels;
  f.sizes.attention = kAttention;
  f.sizes.hidden = kHidden;
  f.sizes.layers = kLayers;
  f.mel = matrix(fte::Numbers::fp32, 4 * kHidden, kMels);
  f.recurrent = fte::List<fte::Matrix>(1 + kLayers);
  f.bias = fte::List<fte::Buffer<float>>(1 + kLayers);
  f.late = fte::List<fte::Matrix>(kLayers);
  for (int i = 0; i <= kLayers; ++i) {
    f.recurrent[i] = matrix(n, 4 * kHidden, kHidden);
    f.bias[i] = floats(4 * kHidden);
    if (i < kLayers) f.late[i] = matrix(n, 4 * kHidden, i == 0 ? kAttention : kHidden);
  }
  f.early = matrix(n, 4 * kHidden, kHidden);
  f.query = matrix(n, kAttention, kHidden);
  f.energy = floats(kAttention);
  for (int i = 0; i < 2; ++i) {
    f.dense[i] = matrix(n, kHidden, kHidden);
    f.dense_bias[i] = floats(kHidden);
  }
  f.affine = matrix(fte::Numbers::fp32, 2 * kMels, kHidden);
  f.affine_bias = floats(2 * kMels);
  return f;
}

// GB/s at which all workers together read `bytes` again and again, each its own part.
double read_rate(fte::Team& team, std::size_t bytes) {
  const std::vector<long long> buffer(bytes / sizeof(long long), 1);
  std::vector<long long> sums(at(team.workers()) * 8);
  double best = 1e9;
  for (int trial = 0; trial < kTrials; ++trial) {
    const double start = seconds_now();
    team.run([&](int worker, fte::Barrier& barrier) {
      const std::size_t n = buffer.size(), w = at(worker), workers = at(team.workers());
      for (int step = 0; step < kFrames; ++step) {
        long long sum = 0;
        for (std::size_t i = n * w / workers; i < n * (w + 1) / workers; ++i) sum += buffer[i];
        sums[8 * w] += sum;
        barrier.wait();
      }
    });
    best = std::min(best, seconds_now() - start);
  }
  return static_cast<double>(bytes) * kFrames / best / 1e9;
}

double step_seconds(const fte::FlowWeights& flow, fte::Team& team, const fte::Kernels& kernels, int batch) {
  const std::vector<float> keys = random_values(at(batch) * kSymbols * kAttention, 1.0F);
  const std::vector<float> z = random_values(at(kFrames) * at(batch) * kMels, 1.0F);
  const std::vector<float> ones(at(batch), 1.0F);
  const std::vector<std::int32_t> texts(at(batch), kSymbols), frames(at(batch), 1 << 30);
  std::vector<float> mel(z.size()), attention(at(kFrames) * at(batch) * kSymbols);
  fte::FlowInputs inputs;
  inputs.batch = batch;
  inputs.symbols = kSymbols;
  inputs.keys = inputs.values = keys.data();
  inputs.texts = texts.data();
  inputs.frames = frames.data();
  inputs.temperatures = inputs.thresholds = ones.data();
  fte::FlowRun run(flow, kernels, team, inputs);
  fte::FlowFrames block;
  block.count = kFrames;
  block.z = z.data();
  block.mel = mel.data();
  block.attention = attention.data();
  double best = 1e9;
  for (int trial = 0; trial < kTrials; ++trial) {
    const double start = seconds_now();
    run.run(block);
    best = std::min(best, seconds_now() - start);
  }
  return best / kFrames;
}

}  // namespace

int main(int argc, char** argv) {
  const int workers = argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency());
  if (workers < 1 || workers > 256) {
    std::fprintf(stderr, "usage: %s [workers, 1 to 256]\n", argv[0]);
    return 2;
  }
  fte::Team team(workers);
  const struct {
    fte::Numbers numbers;
    const char* name;
  } kPrecisions[] = {{fte::Numbers::int8, "int8"},
                     {fte::Numbers::fp16, "fp16"},
                     {fte::Numbers::bf16, "bf16"},
                     {fte::Numbers::fp32, "fp32"}};
  for (const auto& precision : kPrecisions) {
    const fte::FlowWeights flow = published_flow(precision.numbers);
    const std::size_t bytes = flow.step_bytes();
    const double ceiling = read_rate(team, bytes);
    std::printf("%s: %d workers read %.1f MB again and again at %.1f GB/s: a step takes %.3f ms at least\n",
                precision.name, workers, static_cast<double>(bytes) / 1e6, ceiling,
                static_cast<double>(bytes) / ceiling / 1e6);
    for (fte::Instructions each :
         {fte::Instructions::portable, fte::Instructions::avx2, fte::Instructions::avx512vnni}) {
      if (!fte::has(each)) continue;
      for (int batch : {1, 2, 4, 8, 16}) {
        const double seconds = step_seconds(flow, team, fte::kernels_for(each), batch);
        const double rate = static_cast<double>(bytes) / seconds / 1e9;
        std::printf("  %-12s batch %2d: %.3f ms a step, %5.1f GB/s, %3.0f %% of the ceiling, %4.0f G multiply-adds/s\n",
                    fte::name_of(each), batch, 1e3 * seconds, rate, 100 * rate / ceiling,
                    27.0e6 * batch / seconds / 1e9);
      }
    }
  }
  return 0;
}
