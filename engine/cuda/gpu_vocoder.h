// WaveGlow on an NVIDIA GPU: fp16 on tensor cores, one CUDA graph for each length of chunk.
#pragma once

#include <memory>

#include "vocoder.h"

namespace fte {

class GpuVocoder {
 public:
  // Weights in fp32, as fp16, bf16 and fp32 voices have them on the CPU; int8 ones are refused. Throws Fault.
  explicit GpuVocoder(const VocoderWeights& weights);
  ~GpuVocoder();

  // As fte::vocode; all pointers are to the host's memory. One call at a time.
  void vocode(const float* mel, int frames, const float* noise, float* audio);

  // Milliseconds that the last call's graph took, copies included, by the GPU's own clock.
  float milliseconds() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fte
