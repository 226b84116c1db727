// WaveGlow on a CPU: mel frames and noise to samples.
#pragma once

#include <cstdint>

#include "kernels.h"
#include "matrix.h"
#include "team.h"
#include "wn.h"

namespace fte {

struct VocoderFlow {
  Matrix start;              // (C, half)
  Buffer<float> start_bias;  // (width)
  List<WnLayer> layers;
  Buffer<float> end_bias;  // (2 * half): what WN gives, b and log s, without its layers
  Buffer<float> mixing;    // (channels, channels): the inverse of the 1x1 convolution
  int channels = 0;        // that this flow transforms; half of them it reads
};

struct VocoderWeights {
  int mels = 0;
  int group = 0;           // samples in a group
  int phases = 0;          // groups in a frame
  int taps = 0;            // mel frames that a frame's conditioning reads: itself and those before it
  int first_channels = 0;  // of noise in the flow that runs first
  bool quantized = false;
  float centre = 0.0F;  // what is taken from every mel value before the conditioning; the layers' biases have it
  Matrix upsample;      // (phases * conditioning channels, taps * M), the frame itself first
  Buffer<float> upsample_bias;  // (phases * conditioning channels)
  List<VocoderFlow> flows;      // the last one runs first

  int conditions() const { return mels * group; }
  int hop() const { return group * phases; }
};

// mel (T, M) and noise (T * phases, group), its channels in the order in which they enter -> audio (T * hop).
void vocode(const VocoderWeights& weights, const Kernels& kernels, Team& team, const float* mel, int frames,
            const float* noise, float* audio);

}  // namespace fte
