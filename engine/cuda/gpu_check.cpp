// The engine on this machine's GPU beside the CPU: the same frames and samples, and how long each takes there.
//
//   gpu_check VOICE     a bundle with engine weights in fp16 and int8; its last line is JSON
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "decoder.h"
#include "fault.h"
#include "gpu_flow.h"
#include "gpu_vocoder.h"
#include "voice.h"

namespace {

constexpr int kFrames = 200, kSymbols = 80, kTrials = 5;
constexpr double kSameMel = 2e-3;    // largest difference: the GPU adds up in another order, and a flow feeds on itself
constexpr double kSameAudio = 50.0;  // dB

std::size_t at(int i) { return static_cast<std::size_t>(i); }

std::vector<float> random_values(std::size_t count, float scale) {
  static std::mt19937 generator(1);
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

struct Outputs {
  std::vector<float> mel, attention, gate;
  fte::FlowFrames frames(int batch, int mels, const std::vector<float>& z) {
    mel.resize(at(kFrames) * at(batch) * at(mels));
    attention.resize(at(kFrames) * at(batch) * kSymbols);
    gate.resize(at(kFrames) * at(batch));
    fte::FlowFrames f;
    f.count = kFrames;
    f.z = z.data();
    f.mel = mel.data();
    f.attention = attention.data();
    f.gate = gate.data();
    return f;
  }
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    largest = std::isfinite(a[i]) ? std::fmax(largest, std::fabs(double{a[i]} - b[i])) : 1e9;
  }
  return largest;
}

bool check_flow(fte::Voice& voice, fte::Team& team, const char* precision, int batch, std::string* json) {
  const fte::FlowWeights& flow = voice.flow(voice.flowtron().flows - 1);
  const fte::FlowSizes& n = flow.sizes;
  const std::vector<float> keys = random_values(at(batch) * kSymbols * at(n.attention), 0.5F), values = keys;
  const std::vector<float> memory = random_values(at(batch) * kSymbols * at(n.memory), 0.5F);
  const std::vector<float> z = random_values(at(kFrames) * at(batch) * at(n.mels), 0.5F);
  std::vector<std::int32_t> texts, frames;
  for (int b = 0; b < batch; ++b) {
    texts.push_back(kSymbols - b);
    frames.push_back(kFrames - 3 * b);
  }
  const std::vector<float> temperatures(at(batch), 1.0F), thresholds(at(batch), 2.0F);
  fte::FlowInputs inputs;
  inputs.batch = batch;
  inputs.symbols = kSymbols;
  inputs.keys = keys.data();
  inputs.values = values.data();
  inputs.memory = memory.data();
  inputs.texts = texts.data();
  inputs.frames = frames.data();
  inputs.temperatures = temperatures.data();
  inputs.thresholds = thresholds.data();

  Outputs expected, found;
  fte::FlowRun(flow, fte::kernels_for(fte::best_instructions()), team, inputs).run(expected.frames(batch, n.mels, z));
  const fte::GpuFlow on_gpu(flow);
  float best = 1e9F;
  bool resident = false;
  for (int trial = 0; trial < kTrials; ++trial) {
    fte::GpuFlowRun run(on_gpu, inputs);
    run.run(found.frames(batch, n.mels, z));
    best = std::min(best, run.milliseconds());
    resident = run.resident();
  }
  const double mel = largest_difference(found.mel, expected.mel);
  const double attention = largest_difference(found.attention, expected.attention);
  const double gate = n.gate ? largest_difference(found.gate, expected.gate) : 0.0;
  char line[400];
  std::snprintf(line, sizeof line,
                "{\"part\": \"flow\", \"precision\": \"%s\", \"batch\": %d, \"us_per_frame_step\": %.2f, "
                "\"weights_in_shared_memory\": %s, \"mel\": %.3g, \"attention\": %.3g, \"gate\": %.3g}",
                precision, batch, 1e3 * best / kFrames, resident ? "true" : "false", mel, attention, gate);
  std::printf("%s\n", line);
  *json += (json->empty() ? "" : ", ") + std::string(line);
  return std::fmax(mel, std::fmax(attention, gate)) < kSameMel;
}

bool check_vocoder(fte::Voice& voice, fte::Team& team, std::string* json) {
  const fte::VocoderWeights& v = voice.vocoder();
  fte::GpuVocoder on_gpu(v);
  bool same = true;
  for (int frames : {7, 24, 248}) {
    std::vector<float> mel = random_values(at(frames) * at(v.mels), 2.0F);
    for (float& value : mel) value -= 5.0F;
    const std::vector<float> noise = random_values(at(frames) * at(v.hop()), 0.8F);
    std::vector<float> expected(noise.size()), found(noise.size());
    fte::vocode(v, fte::kernels_for(fte::best_instructions()), team, mel.data(), frames, noise.data(), expected.data());
    float best = 1e9F;
    for (int trial = 0; trial < kTrials; ++trial) {
      on_gpu.vocode(mel.data(), frames, noise.data(), found.data());
      best = std::min(best, on_gpu.milliseconds());
    }
    double power = 0.0, error = 1e-30;
    for (std::size_t i = 0; i < found.size(); ++i) {
      power += std::pow(double{expected[i]}, 2);
      error += std::isfinite(found[i]) ? std::pow(double{found[i]} - expected[i], 2) : 1e9;
    }
    const double decibels = 10.0 * std::log10(power / error),
                 seconds = double{1} * frames * v.hop() / voice.sample_rate();
    char line[300];
    std::snprintf(line, sizeof line,
                  "{\"part\": \"vocoder\", \"frames\": %d, \"ms\": %.3f, \"rtf\": %.5f, \"snr_db\": %.1f}", frames,
                  best, best / 1e3 / seconds, decibels);
    std::printf("%s\n", line);
    *json += ", " + std::string(line);
    same = same && decibels > kSameAudio;
  }
  return same;
}

int check(const std::string& folder) {
  fte::Team team(std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 2));
  std::string json;
  bool same = true;
  for (const char* precision : {"fp16", "int8"}) {
    fte::Voice voice(folder, precision, true);
    for (int batch : {1, 3, 8, 16}) same = check_flow(voice, team, precision, batch, &json) && same;
    if (std::strcmp(precision, "fp16") == 0 && voice.has_vocoder()) same = check_vocoder(voice, team, &json) && same;
  }
  std::printf("{\"same\": %s, \"results\": [%s]}\n", same ? "true" : "false", json.c_str());
  return same ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: gpu_check VOICE\n");
    return 2;
  }
  try {
    return check(argv[1]);
  } catch (const fte::Fault& fault) {
    std::fprintf(stderr, "gpu_check: %s\n", fault.what());
    return 2;
  }
}
