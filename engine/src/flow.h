// What decoding a flow reads and writes. Legend: B utterances, N symbols, K frames of a block, M mel channels,
// H hidden units, A attention channels, D channels of the encoder's memory.
#pragma once

#include <cstdint>

#include "buffer.h"
#include "matrix.h"

namespace fte {

constexpr int kMostBatch = 16;   // utterances decoded at once
constexpr int kMostLayers = 64;  // of a decoder's LSTM

struct FlowSizes {
  int mels = 0;
  int attention = 0;
  int hidden = 0;
  int layers = 0;        // of the decoder's LSTM
  int memory = 0;        // D
  int filters = 0;       // of cumulative attention, or 0 without it
  int filter_reach = 0;  // symbols that its first convolution sees on each side
  int memory_reach = 0;  // and its second
  bool gate = false;
};

// Weights of one flow. The rows of an LSTM stand unit by unit: the gates i, f, g, o of unit 0, of unit 1, ...
struct FlowWeights {
  FlowSizes sizes;
  Matrix mel;                   // attention LSTM: (4H, M) of the last output frame
  List<Matrix> recurrent;       // of the attention LSTM and each decoder layer: (4H, H)
  List<Buffer<float>> bias;     // of the same: (4H)
  Matrix early;                 // decoder layer 0: (4H, H) of the attention LSTM's output
  List<Matrix> late;            // decoder layers: (4H, A) of the context, then (4H, H) of the layer below
  Matrix query;                 // (A, H)
  Buffer<float> energy;         // (A)
  Matrix dense[2];              // (H, H)
  Buffer<float> dense_bias[2];  // (H)
  Matrix affine;                // (2M, H), channel by channel: log_s and b of channel 0, of channel 1, ...
  Buffer<float> affine_bias;    // (2M)
  Buffer<float> gate;           // (H + A), then its bias
  Matrix key, value;            // (A, D): of the memory
  Buffer<float> filter_weights, filter_bias;  // (filters, 2, 2 * filter_reach + 1), (filters)
  Buffer<float> memory_weights, memory_bias;  // (D, filters, 2 * memory_reach + 1), (D)

  std::size_t step_bytes() const;  // of the weights that every frame reads
};

extern const Buffer<float> kNoBias;

// K frames of a batch. Rows of utterances that have ended are zeros.
struct FlowBlock {
  int batch = 0;
  int symbols = 0;          // N, of the longest text
  int attention_width = 0;  // A
  int frames = 0;           // K

  const float* z = nullptr;                  // (K, B, M)
  const float* keys = nullptr;               // (B, N, A); written by the worker where attention is cumulative
  const float* values = nullptr;             // (B, N, A)
  const float* memory = nullptr;             // (B, N, D), with cumulative attention
  const std::int32_t* texts = nullptr;       // (B): symbols of each
  const float* temperatures = nullptr;       // (B)
  const float* thresholds = nullptr;         // (B): an utterance ends with the frame whose gate exceeds it
  const float* prior = nullptr;              // (K, B, N) or nothing
  const float* imposed = nullptr;            // (K, B, N) or nothing
  const std::uint8_t* is_imposed = nullptr;  // (B), with `imposed`

  float* mel = nullptr;        // (K, B, M)
  float* attention = nullptr;  // (K, B, N)
  float* gate = nullptr;       // (K, B), or nothing

  // What lives from block to block.
  std::int32_t* remaining = nullptr;  // (B): frames that each utterance may still have
  float* last = nullptr;              // (B, M): the last output frame
  float* hidden = nullptr;            // (1 + layers, B, H)
  float* cell = nullptr;              // (1 + layers, B, H)
  float* pending = nullptr;           // (1 + layers, B, 4H): sums of the next frame that are known already
  float* alignment = nullptr;         // (B, 2, N): sum of past weights, last weights; with cumulative attention

  // What workers tell each other within a frame.
  float* query = nullptr;                // (B, A)
  float* scores = nullptr;               // (B, N)
  float* context = nullptr;              // (B, A)
  float* dense[2] = {nullptr, nullptr};  // (B, H)
  float* gated_memory = nullptr;         // (B, N, D), with cumulative attention
  float* gated_keys = nullptr;           // (B, N, A), the same
};

constexpr int kApart = 64;  // numbers between vectors, which would share the cache's sets at powers of two

// What a worker has for itself.
struct FlowScratch {
  Buffer<float> floats;         // vectors as they are: (B, largest width)
  Buffer<std::uint8_t> digits;  // the same in two digits: (2B, largest width)
  Buffer<float> scales;         // (B)
  Buffer<float> sums;           // (B, rows of a share)
  Buffer<float> weights;        // (N)
};

}  // namespace fte
