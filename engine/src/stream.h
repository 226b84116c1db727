// One utterance from symbol ids to samples, chunk by chunk, as the Python runtime's decoder and vocoder do it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "decoder.h"
#include "kernels.h"
#include "team.h"
#include "voice.h"

namespace fte {

constexpr int kMostSymbols = 1000;
constexpr int kMostFrames = 10000;

// A voice and what computes for it, shared by its streams.
struct Speaker {
  Speaker(const std::string& folder, const std::string& precision, bool check, int threads)
      : voice(folder, precision, check), team(threads), kernels(kernels_for(best_instructions())) {}

  Voice voice;
  Team team;
  const Kernels& kernels;
};

struct StreamOptions {
  int speaker = 0;
  std::uint64_t seed = 0, request = 0;
  float sigma = 0.5F, vocoder_sigma = 0.8F, gate_threshold = 0.5F, temperature = 1.0F;
  bool stop_with_attention = true;
  int max_frames = 0;
  std::vector<float> style;  // (rows, M)
  std::vector<float> z;      // (T, M)
  int first_chunk = 24, chunk = 237, overlap = 8;
};

// Tells when a text has been read: where the attention has seen half of the symbols and then stays on the last two (the
// first two, in a backward flow) for three frames; of two or three symbols only on the very last (first). The utterance
// goes on for ten more, to let the last sound fade.
class Arrival {
 public:
  Arrival(int symbols, bool backward) : backward_(backward), seen_(static_cast<std::size_t>(symbols)) {}

  // Whether the utterance ends with a frame of these weights (N).
  bool step(const float* attention);

 private:
  const bool backward_;
  std::vector<bool> seen_;
  int count_ = 0, at_edge_ = 0, since_ = 0;
};

class Stream {
 public:
  // Throws Fault for ids or options that the voice cannot take.
  Stream(std::shared_ptr<Speaker> speaker, const std::int64_t* ids, std::size_t count, StreamOptions options);

  // The next samples, or none at the end. Throws Fault.
  const std::vector<float>& next();

  void cancel() { cancelled_ = true; }

 private:
  void begin();
  void run_early_flow(int k);
  bool decode_block();
  void start_flow(int k, int frames);
  std::vector<float> run_block(int count, int first, std::vector<float>* attention, std::vector<float>* gate);
  void vocode_chunk(int start, int stop);
  void check_cancelled() const;

  const std::shared_ptr<Speaker> speaker_;
  const StreamOptions options_;
  const std::vector<std::int64_t> ids_;
  std::atomic<bool> cancelled_{false};

  bool begun_ = false;
  std::vector<float> memory_;         // (N, D)
  std::vector<float> residual_;       // (T, M) in playing order: z, then what the flows made of it
  int frames_ = 0;                    // T
  std::vector<float> keys_, values_;  // of the flow that runs
  std::unique_ptr<FlowRun> run_;
  std::unique_ptr<Arrival> arrival_;  // of flow 0, where it is the only one
  int decoded_ = 0;                   // frames of flow 0 that are done
  std::vector<float> mel_;            // (decoded_, M)
  int position_ = 0, size_ = 0;       // the next chunk's first frame, and how many it would have
  std::vector<float> samples_;
};

}  // namespace fte
