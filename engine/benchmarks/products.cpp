// One flow step of the published size: its six large products in int8, with a barrier after each, beside the rate at
// which this machine reads as many bytes. Measure on a quiet machine: the workers wait for each other six times a step.
#include "products.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "team.h"

namespace {

struct Shape {
  const char* name;
  int rows;
  int columns;
};

// Flowtron as published: 80 mel channels, 1024 hidden, 640 attention.
const Shape kStep[] = {{"attention LSTM", 4096, 1104}, {"query", 640, 1024},    {"LSTM 0", 4096, 2688},
                       {"LSTM 1", 4096, 2048},         {"dense 0", 1024, 1024}, {"dense 1", 1024, 1024}};
constexpr int kSteps = 200;
constexpr int kTrials = 7;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::vector<float> random_values(std::size_t count) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

// GB/s at which all workers together read `bytes` again and again.
double read_rate(fte::Team& team, std::size_t bytes) {
  const std::vector<long long> buffer(bytes / sizeof(long long), 1);
  std::vector<long long> sums(static_cast<std::size_t>(team.workers()));
  double best = 1e9;
  for (int trial = 0; trial < kTrials; ++trial) {
    const double start = seconds_now();
    team.run([&](int worker, fte::Barrier& barrier) {
      const auto n = buffer.size();
      const auto w = static_cast<std::size_t>(worker);
      const auto workers = sums.size();
      for (int step = 0; step < kSteps; ++step) {
        long long sum = 0;
        for (std::size_t i = n * w / workers; i < n * (w + 1) / workers; ++i) sum += buffer[i];
        sums[w] += sum;
        barrier.wait();
      }
    });
    best = std::min(best, seconds_now() - start);
  }
  return static_cast<double>(bytes) * kSteps / best / 1e9;
}

double step_seconds(fte::Team& team, const std::vector<fte::Int8Matrix>& matrices, int batch,
                    fte::Instructions instructions) {
  std::vector<fte::Int8Vectors> vectors;
  std::vector<std::vector<float>> outputs;
  for (const fte::Int8Matrix& m : matrices) {
    vectors.push_back(fte::make_vectors(batch, m.columns));
    const std::vector<float> x = random_values(static_cast<std::size_t>(m.columns));
    for (int b = 0; b < batch; ++b) fte::quantize_vector(x.data(), m.columns, b, vectors.back());
    outputs.emplace_back(static_cast<std::size_t>(batch * m.rows));
  }
  double best = 1e9;
  for (int trial = 0; trial < kTrials; ++trial) {
    const double start = seconds_now();
    team.run([&](int worker, fte::Barrier& barrier) {
      for (int step = 0; step < kSteps; ++step) {
        for (std::size_t i = 0; i < matrices.size(); ++i) {
          const fte::Int8Matrix& m = matrices[i];
          const int first = worker ? fte::part_end(m.rows, team.workers(), worker - 1, fte::kRowBlock) : 0;
          const int last = fte::part_end(m.rows, team.workers(), worker, fte::kRowBlock);
          fte::multiply(m, vectors[i], first, last, outputs[i].data(), instructions);
          barrier.wait();
        }
      }
    });
    best = std::min(best, seconds_now() - start);
  }
  return best / kSteps;
}

}  // namespace

int main(int argc, char** argv) {
  const int workers = argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency());
  if (workers < 1 || workers > 256) {
    std::fprintf(stderr, "usage: %s [workers, 1 to 256]\n", argv[0]);
    return 2;
  }
  fte::Team team(workers);
  std::vector<fte::Int8Matrix> matrices;
  std::size_t bytes = 0;
  for (const Shape& shape : kStep) {
    const auto count = static_cast<std::size_t>(shape.rows) * static_cast<std::size_t>(shape.columns);
    matrices.push_back(fte::quantize_rows(random_values(count).data(), shape.rows, shape.columns));
    bytes += matrices.back().bytes();
  }
  const double ceiling = read_rate(team, bytes);
  std::printf("%d workers read %.1f MB again and again at %.1f GB/s: a step takes %.3f ms at least\n", workers,
              static_cast<double>(bytes) / 1e6, ceiling, static_cast<double>(bytes) / ceiling / 1e6);
  for (fte::Instructions each : {fte::Instructions::portable, fte::Instructions::avx2, fte::Instructions::avx512vnni}) {
    if (!fte::has(each)) continue;
    for (int batch : {1, 2, 4, 8}) {
      const double seconds = step_seconds(team, matrices, batch, each);
      const double rate = static_cast<double>(bytes) / seconds / 1e9;
      std::printf("%-12s batch %d: %.3f ms a step, %5.1f GB/s, %3.0f %% of the ceiling, %.0f G multiply-adds/s\n",
                  fte::name_of(each), batch, 1e3 * seconds, rate, 100 * rate / ceiling, 26.8e6 * batch / seconds / 1e9);
    }
  }
  return 0;
}
