// A flow over a batch of utterances: the state that lives from its first frame to its last.
#pragma once

#include <cstdint>
#include <vector>

#include "flow.h"
#include "kernels.h"
#include "team.h"

namespace fte {

// What a flow reads of a batch, the same in every frame. Copied where a run needs it for longer.
struct FlowInputs {
  int batch = 0;
  int symbols = 0;                        // N, of the longest text
  const float* keys = nullptr;            // (B, N, A), without cumulative attention
  const float* values = nullptr;          // (B, N, A)
  const float* memory = nullptr;          // (B, N, D), with it
  const std::int32_t* texts = nullptr;    // (B): symbols of each, 1 to N
  const std::int32_t* frames = nullptr;   // (B): frames that each may have
  const float* temperatures = nullptr;    // (B)
  const float* thresholds = nullptr;      // (B), or nothing where the flow has no gate
  const std::uint8_t* imposed = nullptr;  // (B): whose attention is given; or nothing
};

// What K frames read and give; see FlowBlock.
struct FlowFrames {
  int count = 0;
  const float* z = nullptr;
  const float* prior = nullptr;
  const float* imposed = nullptr;
  float* mel = nullptr;
  float* attention = nullptr;
  float* gate = nullptr;
};

class FlowRun {
 public:
  // The weights, the kernels and the team have to outlive the run.
  FlowRun(const FlowWeights& weights, const Kernels& kernels, Team& team, const FlowInputs& inputs);

  // The next frames. Utterances that end within them, or have ended, leave zeros.
  void run(const FlowFrames& frames);

  // Frames that an utterance may still have; 0 once it has ended.
  int remaining(int utterance) const { return remaining_[static_cast<std::size_t>(utterance)]; }

 private:
  const FlowWeights& weights_;
  const Kernels& kernels_;
  Team& team_;
  FlowBlock block_;
  Buffer<float> floats_;  // everything below that is made of floats
  Buffer<std::int32_t> texts_, remaining_;
  Buffer<std::uint8_t> imposed_;
  List<FlowScratch> scratch_;
};

}  // namespace fte
