// What is computed differently by each set of instructions: products of packed matrices with vectors, a worker's share
// of a flow's frames, and a worker's share of a vocoder's layer. One source, kernels_body.h, built for each of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu.h"
#include "flow.h"
#include "matrix.h"
#include "team.h"
#include "wn.h"

namespace fte {

struct Kernels {
  // Tiles first to last (not itself) of matrix times vectors: out[v * out_stride + row] = (+= if `add`) the sum for
  // vector v, which begins at x + v * stride. Rows in the last tile that the matrix lacks are written as zeros.
  // Floats only; every sum is taken in the same order whatever `count` is.
  void (*multiply)(const Matrix& matrix, const float* x, std::ptrdiff_t stride, int count, int first, int last,
                   float* out, std::ptrdiff_t out_stride, bool add);

  // The frames of a block that a flow may still have, on one worker of a team that all call it.
  void (*decode)(const FlowWeights& weights, const FlowBlock& block, int worker, int workers, Barrier& barrier,
                 FlowScratch& scratch);

  // One step of an LSTM of `units`: sums (units, 4 gates i f g o) -> cell and hidden (units).
  void (*lstm_cells)(const float* sums, float* cell, float* hidden, int units);

  // A layer of a WN over the groups first to last.
  void (*wn_layer)(const WnLayer& layer, const WnBuffers& buffers, int first, int last, WnScratch& scratch);

  // Values (count, width) as bytes with a scale each: the layer's form of what its products read.
  void (*quantize_rows)(const float* values, std::ptrdiff_t stride, int count, int width, std::uint8_t* bytes,
                        std::ptrdiff_t byte_stride, float* scales);
};

// The kernels for instructions that this CPU has.
const Kernels& kernels_for(Instructions instructions);

}  // namespace fte
