#include "encoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

namespace fte {
namespace {

constexpr double kNormEpsilon = 1e-5;

std::size_t at(int i) { return static_cast<std::size_t>(i); }

// Tiles of a matrix that a worker computes.
void own_tiles(const Matrix& m, int worker, int workers, int* first, int* last) {
  *first = worker ? part_end(m.tiles(), workers, worker - 1, 1) : 0;
  *last = part_end(m.tiles(), workers, worker, 1);
}

// relu(norm(x)) of the channels first to last: x (N, stride) -> to (N, stride).
void normalise(const EncoderConvolution& c, const float* x, int count, int stride, int first, int last, float* to) {
  for (int channel = first; channel < last; ++channel) {
    const auto value = [&](int i) { return x[at(i) * at(stride) + at(channel)] + c.bias[at(channel)]; };
    double mean = 0.0, variance = 0.0;
    for (int i = 0; i < count; ++i) mean += value(i);
    mean /= count;
    for (int i = 0; i < count; ++i) variance += (value(i) - mean) * (value(i) - mean);
    const double factor = c.gain[at(channel)] / std::sqrt(variance / count + kNormEpsilon);
    for (int i = 0; i < count; ++i) {
      const double found = (value(i) - mean) * factor + c.shift[at(channel)];
      to[at(i) * at(stride) + at(channel)] = static_cast<float>(std::max(found, 0.0));
    }
  }
}

// One direction of the LSTM: sums (N, 4H) of the input -> memory (N, width), from `column` on.
void run_direction(const EncoderDirection& d, const Kernels& kernels, int hidden, const float* sums, int count,
                   bool backward, float* memory, int width, int column) {
  Buffer<float> h(at(round_up(hidden, kTile))), c(at(round_up(hidden, kTile))), gates(at(round_up(4 * hidden, kTile)));
  for (int step = 0; step < count; ++step) {
    const int i = backward ? count - 1 - step : step;
    const float* row = sums + at(i) * gates.size();
    for (int k = 0; k < 4 * hidden; ++k) gates[at(k)] = row[k] + d.bias[at(k)];
    kernels.multiply(d.recurrent, h.data(), 0, 1, 0, d.recurrent.tiles(), gates.data(), 0, true);
    kernels.lstm_cells(gates.data(), c.data(), h.data(), hidden);
    std::copy_n(h.data(), hidden, memory + at(i) * at(width) + at(column));
  }
}

}  // namespace

void encode(const EncoderWeights& e, const Kernels& kernels, Team& team, const std::int64_t* ids, int count,
            int speaker, float* memory) {
  const int stride = round_up(e.channels, kTile), width = e.memory();
  int reach = 0;
  for (const EncoderConvolution& c : e.convolutions) reach = std::max(reach, c.taps / 2);
  const std::size_t rows = at(count + 2 * reach);
  Buffer<float> x(rows * at(stride)), convolved(at(count) * at(stride));
  const std::size_t gates = at(round_up(4 * e.hidden, kTile));
  Buffer<float> sums[2] = {Buffer<float>(at(count) * gates), Buffer<float>(at(count) * gates)};
  for (int i = 0; i < count; ++i) {
    std::copy_n(e.embedding.data() + static_cast<std::size_t>(ids[i]) * at(e.channels), e.channels,
                x.data() + at(i + reach) * at(stride));
  }
  team.run([&](int worker, Barrier& barrier) {
    int first = 0, last = 0;
    for (const EncoderConvolution& c : e.convolutions) {
      own_tiles(c.weight, worker, team.workers(), &first, &last);
      kernels.multiply(c.weight, x.data() + at(reach - c.taps / 2) * at(stride), stride, count, first, last,
                       convolved.data(), stride, false);
      barrier.wait();
      normalise(c, convolved.data(), count, stride, first * kTile, std::min(last * kTile, e.channels),
                x.data() + at(reach) * at(stride));
      barrier.wait();
    }
    for (int d = 0; d < 2; ++d) {
      own_tiles(e.directions[d].input, worker, team.workers(), &first, &last);
      kernels.multiply(e.directions[d].input, x.data() + at(reach) * at(stride), stride, count, first, last,
                       sums[d].data(), static_cast<std::ptrdiff_t>(gates), false);
    }
    barrier.wait();
    for (int d = 0; d < 2; ++d) {
      if (d % team.workers() != worker) continue;
      run_direction(e.directions[d], kernels, e.hidden, sums[d].data(), count, d == 1, memory, width, d * e.hidden);
    }
  });
  const float* voice = e.speaker_embedding.data() + at(e.one_speaker ? 0 : speaker) * at(e.speaker_channels);
  for (int i = 0; i < count; ++i) {
    std::copy_n(voice, e.speaker_channels, memory + at(i) * at(width) + at(2 * e.hidden));
  }
}

void project(const Matrix& m, const Kernels& kernels, Team& team, const float* memory, int count, float* out) {
  const int padded = m.tiles() * kTile;
  Buffer<float> whole(padded == m.rows ? 0 : at(count) * at(padded));
  float* to = whole.empty() ? out : whole.data();
  team.run([&](int worker, Barrier&) {
    int first = 0, last = 0;
    own_tiles(m, worker, team.workers(), &first, &last);
    kernels.multiply(m, memory, m.columns, count, first, last, to, padded, false);
  });
  if (whole.empty()) return;
  for (int i = 0; i < count; ++i) std::copy_n(to + at(i) * at(padded), m.rows, out + at(i) * at(m.rows));
}

}  // namespace fte
