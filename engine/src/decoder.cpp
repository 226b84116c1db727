#include "decoder.h"

#include <algorithm>
#include <cstring>
#include <functional>

namespace fte {

const Buffer<float> kNoBias;

std::size_t FlowWeights::step_bytes() const {
  std::size_t bytes =
      mel.bytes() + early.bytes() + query.bytes() + affine.bytes() + dense[0].bytes() + dense[1].bytes();
  for (const Matrix& m : recurrent) bytes += m.bytes();
  for (const Matrix& m : late) bytes += m.bytes();
  return bytes;
}

FlowRun::FlowRun(const FlowWeights& weights, const Kernels& kernels, Team& team, const FlowInputs& inputs)
    : weights_(weights),
      kernels_(kernels),
      team_(team),
      texts_(static_cast<std::size_t>(inputs.batch)),
      remaining_(static_cast<std::size_t>(inputs.batch)),
      imposed_(static_cast<std::size_t>(inputs.batch)),
      scratch_(team.workers()) {
  const FlowSizes& n = weights.sizes;
  const auto batch = static_cast<std::size_t>(inputs.batch), symbols = static_cast<std::size_t>(inputs.symbols);
  const auto hidden = static_cast<std::size_t>(n.hidden), attention = static_cast<std::size_t>(n.attention);
  const auto memory = static_cast<std::size_t>(n.filters ? n.memory : 0);
  const auto lstms = static_cast<std::size_t>(1 + n.layers), mels = static_cast<std::size_t>(n.mels);

  // One piece of memory, cut up twice: first to learn its size.
  const auto cut = [&](float* from) {
    const float* start = from;
    const auto take = [&](std::size_t size) {
      float* found = from;
      from += (size + kTile - 1) / kTile * kTile;
      return found;
    };
    FlowBlock& b = block_;
    b.last = take(batch * mels);
    b.hidden = take(lstms * batch * hidden);
    b.cell = take(lstms * batch * hidden);
    b.pending = take(lstms * batch * 4 * hidden);
    b.alignment = memory ? take(batch * 2 * symbols) : nullptr;
    b.query = take(batch * attention);
    b.scores = take(batch * symbols);
    b.context = take(batch * attention);
    b.dense[0] = take(batch * hidden);
    b.dense[1] = take(batch * hidden);
    b.gated_memory = memory ? take(batch * symbols * memory) : nullptr;
    b.gated_keys = memory ? take(batch * symbols * attention) : nullptr;
    b.memory = take(batch * symbols * memory);
    b.keys = take(memory ? 0 : batch * symbols * attention);
    b.values = take(batch * symbols * attention);
    b.temperatures = take(batch);
    b.thresholds = take(batch);
    return static_cast<std::size_t>(from - start);
  };
  float origin = 0.0F;
  floats_ = Buffer<float>(cut(&origin));
  cut(floats_.data());

  const auto copy = [](const float* to, const float* from, std::size_t count) {
    if (from) std::memcpy(const_cast<float*>(to), from, count * sizeof(float));
  };
  copy(block_.memory, inputs.memory, batch * symbols * memory);
  copy(block_.keys, inputs.keys, memory ? 0 : batch * symbols * attention);
  copy(block_.values, inputs.values, batch * symbols * attention);
  copy(block_.temperatures, inputs.temperatures, batch);
  copy(block_.thresholds, inputs.thresholds, batch);
  std::copy_n(inputs.texts, batch, texts_.begin());
  std::copy_n(inputs.frames, batch, remaining_.begin());
  if (inputs.imposed) std::copy_n(inputs.imposed, batch, imposed_.begin());
  for (std::size_t l = 0; l < lstms; ++l) {
    for (std::size_t b = 0; b < batch; ++b) {
      std::copy_n(weights.bias[static_cast<int>(l)].data(), 4 * hidden, block_.pending + (l * batch + b) * 4 * hidden);
    }
  }
  block_.batch = inputs.batch;
  block_.symbols = inputs.symbols;
  block_.attention_width = n.attention;
  block_.texts = texts_.data();
  block_.remaining = remaining_.data();
  block_.is_imposed = imposed_.data();

  const std::size_t widest =
      static_cast<std::size_t>(round_up(std::max({n.mels, n.hidden, n.attention}), kTile) + kApart);
  for (FlowScratch& s : scratch_) {
    s.floats = Buffer<float>(batch * widest);
    s.digits = Buffer<std::uint8_t>(2 * batch * widest);
    s.scales = Buffer<float>(batch);
    s.sums = Buffer<float>(static_cast<std::size_t>((2 * n.memory_reach + 1) * std::max(n.filters, 1)));
    s.weights = Buffer<float>(symbols + kTile);
  }
}

void FlowRun::run(const FlowFrames& frames) {
  FlowBlock block = block_;
  block.frames = frames.count;
  block.z = frames.z;
  block.prior = frames.prior;
  block.imposed = frames.imposed;
  block.mel = frames.mel;
  block.attention = frames.attention;
  block.gate = weights_.sizes.gate ? frames.gate : nullptr;
  const auto rows = static_cast<std::size_t>(frames.count) * static_cast<std::size_t>(block.batch);
  std::fill_n(block.mel, rows * static_cast<std::size_t>(weights_.sizes.mels), 0.0F);
  std::fill_n(block.attention, rows * static_cast<std::size_t>(block.symbols), 0.0F);
  if (block.gate) std::fill_n(block.gate, rows, 0.0F);
  team_.run([&](int worker, Barrier& barrier) {
    kernels_.decode(weights_, block, worker, team_.workers(), barrier, scratch_[worker]);
  });
}

}  // namespace fte
