// What a layer of WaveGlow's WN reads and writes on a CPU. Legend: G groups of samples, C channels, R taps.
#pragma once

#include <cstdint>

#include "buffer.h"
#include "matrix.h"

namespace fte {

constexpr int kGroupTile = 96;         // groups that a layer computes at once
constexpr float kGateLevels = 127.0F;  // of tanh * sigmoid as a byte, whose zero is 128, like that of all others here

struct WnLayer {
  bool quantized = false;
  int channels = 0;   // C
  int width = 0;      // C rounded up to kTile: a row of x
  int condition = 0;  // channels of the conditioning
  int taps = 0;       // R, odd
  int dilation = 0;   // groups between taps
  int phases = 1;     // groups after which the bias repeats
  bool last = false;
  List<Matrix> tanh, sigmoid;                // of each tap: (C, width)
  Matrix condition_tanh, condition_sigmoid;  // (C, condition)
  Buffer<float> bias;                        // (phases, 2 * width): tanh's, sigmoid's
  Matrix residual;                           // (C, width), but in the last layer
  Buffer<float> residual_bias;               // (width)
  Matrix end;                // (E, width): what this layer adds to WN's output; in int8 (2E, width), high digits, low
  Buffer<float> end_scales;  // int8: (E)
};

// Rows lie `reach` groups before 0 and after G - 1 too, and mean zero there.
struct WnBuffers {
  int groups = 0;
  int reach = 0;
  int condition_width = 0;                // of a row of the conditioning
  float* x = nullptr;                     // (reach + G + reach, width)
  const std::uint8_t* x_bytes = nullptr;  // int8: the same as bytes, with
  const float* x_scales = nullptr;        // a scale each
  float* next_x = nullptr;                // fp32: where the next x goes, as neighbours still read this one
  std::uint8_t* next_bytes = nullptr;     // int8: the same
  float* next_scales = nullptr;
  const float* condition = nullptr;               // fp32 (G, condition_width)
  const std::uint8_t* condition_bytes = nullptr;  // int8
  const float* condition_scales = nullptr;        // (G)
  int phase = 0;                                  // of group 0
  float* out = nullptr;                           // (G, E): the sum of what the layers add to WN's output
  int out_width = 0;                              // E
  int out_stride = 0;                             // of a row, the same in every flow
};

struct WnScratch {
  Buffer<float> gated;         // (tile, width)
  Buffer<std::uint8_t> bytes;  // (tile, width)
};

}  // namespace fte
