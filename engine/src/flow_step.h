// The frames of a flow, stage by stage, for workers of any kind: threads of a CPU, blocks of a GPU.
//
// A worker owns some rows of every matrix, of an LSTM the four gates of its units, so that cells are its own affair.
// Between two stages all wait for each other. What the next frame needs of this one is computed between `arrive` and
// `wait`, while others may still be at work.
#pragma once

#include "flow.h"

#if defined(__CUDACC__)
#define FTE_STAGES __device__
#else
#define FTE_STAGES inline
#endif

namespace fte {

struct Part {
  int first = 0;
  int last = 0;  // not itself
};

// Decode up to s.frames frames. Worker has
//   part(count, multiple)            its part of so many things, cut at a multiple
//   start_frame(s)                   note which utterances still speak; how many
//   load(rows, width)                take the vectors (B, width) of those utterances; the next products read them
//   add_product(matrix, rows, out)   out (B, rows of the matrix) += product
//   set_product(matrix, rows, bias, out)   out = product + bias, where bias is not null
//   cells(sums, cell, hidden, size, units), dense(matrix, bias, rows, out), gate_memory, gated_keys, scores, attend,
//   gate, affine, end_frame          see workers in kernels_body.h and cuda/gpu_flow.cu
//   arrive(), wait(), barrier()
template <class Worker, class Weights>
FTE_STAGES void decode_frames(Worker& w, const Weights& f, const FlowBlock& s) {
  const FlowSizes& n = f.sizes;
  const Part units = w.part(n.hidden, kTile / 4), gates{4 * units.first, 4 * units.last};
  const Part dense = w.part(n.hidden, kTile), attention = w.part(n.attention, kTile);
  const Part channels = w.part(n.mels, kTile / 2);
  const auto state = [&](float* all, int layer, int size) {
    return all + static_cast<std::size_t>(layer) * static_cast<std::size_t>(s.batch) * static_cast<std::size_t>(size);
  };
  const auto pending = [&](int layer) { return state(s.pending, layer, 4 * n.hidden); };
  const auto hidden = [&](int layer) { return state(s.hidden, layer, n.hidden); };
  const auto cells = [&](int layer) {
    w.cells(pending(layer), state(s.cell, layer, n.hidden), hidden(layer), n.hidden, units);
  };
  const auto remember = [&](int layer) { w.set_product(f.recurrent[layer], gates, f.bias[layer], pending(layer)); };

  for (int t = 0; t < s.frames && w.start_frame(s); ++t) {
    w.load(s.last, n.mels);
    w.add_product(f.mel, gates, pending(0));
    cells(0);
    if (n.filters) w.gate_memory(f, s);
    w.barrier();

    w.load(hidden(0), n.hidden);
    w.set_product(f.query, attention, w.no_bias(), s.query);
    if (n.filters) w.gated_keys(f, s, attention);
    w.arrive();
    w.add_product(f.early, gates, pending(1));
    remember(0);
    w.wait();

    w.scores(f, s);
    w.barrier();
    w.attend(s, t, attention);
    w.barrier();

    for (int layer = 0; layer < n.layers; ++layer) {
      if (layer == 0) {
        w.load(s.context, n.attention);
      } else {
        w.load(hidden(layer), n.hidden);
      }
      w.add_product(f.late[layer], gates, pending(layer + 1));
      cells(layer + 1);
      if (layer == 0 && n.gate) w.gate(f, s, t);
      w.arrive();
      if (layer > 0) remember(layer);
      w.wait();
    }

    w.load(hidden(n.layers), n.hidden);
    w.dense(f.dense[0], f.dense_bias[0], dense, s.dense[0]);
    w.arrive();
    remember(n.layers);
    w.wait();
    w.load(s.dense[0], n.hidden);
    w.dense(f.dense[1], f.dense_bias[1], dense, s.dense[1]);
    w.barrier();
    w.load(s.dense[1], n.hidden);
    w.affine(f, s, t, channels);
    w.end_frame(s, t);
    w.barrier();
  }
}

}  // namespace fte
