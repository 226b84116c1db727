// Flowtron's encoder: symbols to what the attention of the flows reads.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels.h"
#include "matrix.h"
#include "team.h"

namespace fte {

struct EncoderConvolution {
  Matrix weight;                    // (C out, taps * C in), tap after tap
  Buffer<float> bias, gain, shift;  // of the convolution; of the norm
  int taps = 0;
};

struct EncoderDirection {
  Matrix input, recurrent;  // (4H, C), (4H, H), unit by unit
  Buffer<float> bias;       // (4H)
};

struct EncoderWeights {
  int symbols = 0;  // that there are
  int speakers = 0;
  int channels = 0;  // C, of the text
  int hidden = 0;    // H, of a direction: C / 2
  int speaker_channels = 0;
  bool one_speaker = false;                    // speaker 0 whatever is asked for
  Buffer<float> embedding, speaker_embedding;  // (symbols, C), (speakers, speaker_channels)
  List<EncoderConvolution> convolutions;
  EncoderDirection directions[2];
  int memory() const { return 2 * hidden + speaker_channels; }
};

// memory (N, D) of ids (N).
void encode(const EncoderWeights& weights, const Kernels& kernels, Team& team, const std::int64_t* ids, int count,
            int speaker, float* memory);

// out (N, rows) = memory (N, D) times matrix: keys and values.
void project(const Matrix& matrix, const Kernels& kernels, Team& team, const float* memory, int count, float* out);

}  // namespace fte
