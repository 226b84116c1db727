// Flow steps of random weights beside the plain reference, in every precision and with all instructions at hand, and
// beside the rate at which this machine reads as many bytes. Measure on a quiet machine: the workers wait for each
// other ten times a frame.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "ceiling.h"
#include "decoder.h"
#include "flow_fixture.h"

namespace {

using fixture::at;

constexpr int kSymbols = 80, kFrames = 64, kChecked = 8;

fte::FlowSizes sizes_of(int hidden, int attention) {
  fte::FlowSizes n;
  n.mels = 80;
  n.hidden = hidden;
  n.attention = attention;
  n.layers = 2;
  n.memory = 1;  // without cumulative attention nobody reads it
  return n;
}

struct Work {
  std::vector<float> keys, z, mel, attention;
  std::vector<std::int32_t> texts, frames;
  std::vector<float> ones;

  Work(const fte::FlowSizes& n, int batch) {
    std::mt19937 generator(2);
    const reference::Weights key = reference::random_weights(generator, kSymbols, n.attention, 1.0F),
                             row = reference::random_weights(generator, kFrames, n.mels, 1.0F);
    for (int b = 0; b < batch; ++b) keys.insert(keys.end(), key.values.begin(), key.values.end());
    for (int t = 0; t < kFrames; ++t) {
      const float* from = row.values.data() + t * n.mels;
      for (int b = 0; b < batch; ++b) z.insert(z.end(), from, from + n.mels);
    }
    mel.resize(z.size());
    attention.resize(at(kFrames * batch * kSymbols));
    texts.assign(at(batch), kSymbols);
    frames.assign(at(batch), 1 << 30);
    ones.assign(at(batch), 1.0F);
  }

  fte::FlowInputs inputs() const {
    fte::FlowInputs in;
    in.batch = static_cast<int>(texts.size());
    in.symbols = kSymbols;
    in.keys = in.values = keys.data();
    in.texts = texts.data();
    in.frames = frames.data();
    in.temperatures = in.thresholds = ones.data();
    return in;
  }
  fte::FlowFrames block() {
    fte::FlowFrames b;
    b.count = kFrames;
    b.z = z.data();
    b.mel = mel.data();
    b.attention = attention.data();
    return b;
  }
};

struct Reference {
  std::vector<reference::Values> mel;
  double step_seconds = 0.0;
};

Reference expect(const reference::Flow& flow) {
  const fte::FlowSizes n = sizes_of(flow.hidden, flow.attention);
  const Work work(n, 1);
  reference::Utterance u;
  for (int i = 0; i < kSymbols; ++i) {
    const float* key = work.keys.data() + i * n.attention;
    u.keys.emplace_back(key, key + n.attention);
  }
  u.values = u.keys;
  for (int t = 0; t < kChecked; ++t) u.z.emplace_back(work.z.data() + t * n.mels, work.z.data() + (t + 1) * n.mels);
  Reference found;
  const double start = ceiling::seconds_now();
  found.mel = reference::decode(flow, u).mel;
  found.step_seconds = (ceiling::seconds_now() - start) / kChecked;
  return found;
}

void measure(const reference::Flow& flow, const Reference& expected, fte::Numbers numbers, fte::Team& team) {
  const fte::FlowWeights weights = fixture::weights_of(flow, numbers);
  const double bytes = static_cast<double>(weights.step_bytes());
  const double rate = ceiling::read_rate(team, weights.step_bytes());
  std::printf("  %.1f MB, which %d workers read at %.1f GB/s: %.3f ms a step at least\n", bytes / 1e6, team.workers(),
              rate, bytes / rate / 1e6);
  for (fte::Instructions each : {fte::Instructions::portable, fte::Instructions::avx2, fte::Instructions::avx512vnni}) {
    if (!fte::has(each)) continue;
    for (int batch : {1, 2, 4, 8, 16}) {
      Work work(weights.sizes, batch);
      const auto decode = [&] {
        fte::FlowRun run(weights, fte::kernels_for(each), team, work.inputs());
        run.run(work.block());
      };
      const double seconds = ceiling::best_seconds(decode, each == fte::Instructions::portable ? 1 : 7) / kFrames;
      double error = 0.0;
      for (int t = 0; t < kChecked; ++t) {
        for (int b = 0; b < batch; ++b) {
          for (int m = 0; m < flow.mels; ++m) {
            const double found = work.mel[at((t * batch + b) * flow.mels + m)];
            error = std::max(error, std::fabs(found - expected.mel[at(t)][at(m)]));
          }
        }
      }
      std::printf(
          "    %-12s batch %2d: %.3f ms a step, %6.1f GB/s, %3.0f %% of the ceiling, %5.1f x plain, error %.1g\n",
          fte::name_of(each), batch, 1e3 * seconds, bytes / seconds / 1e9, 100 * bytes / seconds / 1e9 / rate,
          batch * expected.step_seconds / seconds, error);
    }
  }
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
  const struct {
    int hidden, attention;
  } kSizes[] = {{256, 160}, {1024, 640}};  // the second is Flowtron as published
  for (const auto& size : kSizes) {
    std::mt19937 generator(1);
    const reference::Flow flow = fixture::random_flow(generator, sizes_of(size.hidden, size.attention), 0.1F);
    const Reference expected = expect(flow);
    for (const auto& precision : kPrecisions) {
      std::printf("%d hidden units, %s\n", size.hidden, precision.name);
      measure(flow, expected, precision.numbers, team);
    }
  }
  return 0;
}
