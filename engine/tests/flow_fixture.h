// A flow with random weights, as its plain reference has it, and the same as the engine does.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "decoder.h"
#include "reference.h"

namespace fixture {

using reference::at;

// `scale` is of the weights: 1 for a few dozen hidden units, less for more.
inline reference::Flow random_flow(std::mt19937& g, const fte::FlowSizes& n, float scale = 1.0F) {
  const auto draw = [&](int rows, int columns, float each) {
    return reference::random_weights(g, rows, columns, scale * each);
  };
  reference::Flow f{};
  f.mels = n.mels;
  f.attention = n.attention;
  f.hidden = n.hidden;
  f.layers = n.layers;
  f.memory = n.memory;
  f.filters = n.filters;
  f.filter_reach = n.filter_reach;
  f.memory_reach = n.memory_reach;
  f.has_gate = n.gate;
  f.lstm_mel = draw(4 * n.hidden, n.mels, 0.5F);
  f.lstm_recurrent = draw(4 * n.hidden, n.hidden, 0.4F);
  f.lstm_bias = draw(1, 4 * n.hidden, 0.5F);
  for (int l = 0; l < n.layers; ++l) {
    f.inputs.push_back(draw(4 * n.hidden, l ? n.hidden : n.hidden + n.attention, 0.4F));
    f.recurrent.push_back(draw(4 * n.hidden, n.hidden, 0.4F));
    f.bias.push_back(draw(1, 4 * n.hidden, 0.5F));
  }
  f.query = draw(n.attention, n.hidden, 0.6F);
  f.energy = draw(1, n.attention, 1.0F);
  for (int i = 0; i < 2; ++i) {
    f.dense[i] = draw(n.hidden, n.hidden, 0.4F);
    f.dense_bias[i] = draw(1, n.hidden, 0.5F);
  }
  f.affine = draw(2 * n.mels, n.hidden, 0.2F);
  f.affine_bias = draw(1, 2 * n.mels, 0.2F);
  f.gate = draw(1, n.hidden + n.attention + 1, 0.5F);
  const int taps = 2 * n.filter_reach + 1, wide = 2 * n.memory_reach + 1;
  f.key = draw(n.attention, n.memory, 0.5F);
  f.filter = draw(n.filters, 2 * taps, 0.7F);
  f.filter_bias = draw(1, n.filters, 0.5F);
  f.out = draw(n.memory, n.filters * wide, 0.7F);
  f.out_bias = draw(1, n.memory, 0.5F);
  return f;
}

inline std::vector<int> unit_order(int hidden) {
  std::vector<int> order;
  for (int u = 0; u < hidden; ++u) {
    for (int gate = 0; gate < 4; ++gate) order.push_back(gate * hidden + u);
  }
  return order;
}

// Cut off after as many bits as an fp16 or a bf16 has; what an fp16 cannot hold is zero.
inline std::uint16_t narrow(fte::Numbers numbers, float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof bits);
  if (numbers == fte::Numbers::bf16) return static_cast<std::uint16_t>(bits >> 16);
  const std::uint32_t exponent = bits >> 23 & 255, least = 113, most = 142;
  if (exponent < least || exponent > most) return 0;
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000) | (exponent - least + 1) << 10 | (bits >> 13 & 0x3ff));
}

inline fte::Matrix packed(const reference::Weights& w, fte::Numbers numbers = fte::Numbers::fp32,
                          const std::vector<int>* order = nullptr) {
  if (numbers == fte::Numbers::fp32) {
    return fte::pack(numbers, w.values.data(), w.rows, w.columns, nullptr, order);
  }
  if (numbers != fte::Numbers::int8) {
    std::vector<std::uint16_t> halves;
    for (float value : w.values) halves.push_back(narrow(numbers, value));
    return fte::pack(numbers, halves.data(), w.rows, w.columns, nullptr, order);
  }
  reference::Weights ordered = w;
  for (int row = 0; order && row < w.rows; ++row) {
    for (int k = 0; k < w.columns; ++k) {
      ordered.values[at(row * w.columns + k)] = static_cast<float>(w.at((*order)[at(row)], k));
    }
  }
  return fte::pack_quantized(ordered.values.data(), w.rows, w.columns);
}

inline reference::Weights columns(const reference::Weights& w, int first, int count) {
  reference::Weights found{w.rows, count, {}};
  for (int row = 0; row < w.rows; ++row) {
    for (int k = 0; k < count; ++k) found.values.push_back(static_cast<float>(w.at(row, first + k)));
  }
  return found;
}

inline fte::Buffer<float> buffer(const reference::Weights& w, const std::vector<int>* order = nullptr) {
  fte::Buffer<float> found(at(fte::round_up(static_cast<int>(w.values.size()), fte::kTile)));
  for (std::size_t i = 0; i < w.values.size(); ++i) found[i] = w.values[order ? at((*order)[i]) : i];
  return found;
}

inline fte::FlowWeights weights_of(const reference::Flow& f, fte::Numbers numbers) {
  fte::FlowWeights w;
  w.sizes.mels = f.mels;
  w.sizes.attention = f.attention;
  w.sizes.hidden = f.hidden;
  w.sizes.layers = f.layers;
  w.sizes.memory = f.memory;
  w.sizes.filters = f.filters;
  w.sizes.filter_reach = f.filter_reach;
  w.sizes.memory_reach = f.memory_reach;
  w.sizes.gate = f.has_gate;
  const std::vector<int> order = unit_order(f.hidden);
  w.mel = packed(f.lstm_mel, fte::Numbers::fp32, &order);
  w.recurrent = fte::List<fte::Matrix>(1 + f.layers);
  w.bias = fte::List<fte::Buffer<float>>(1 + f.layers);
  w.late = fte::List<fte::Matrix>(f.layers);
  w.recurrent[0] = packed(f.lstm_recurrent, numbers, &order);
  w.bias[0] = buffer(f.lstm_bias, &order);
  w.early = packed(columns(f.inputs[0], 0, f.hidden), numbers, &order);
  for (int l = 0; l < f.layers; ++l) {
    w.late[l] = packed(l ? f.inputs[at(l)] : columns(f.inputs[0], f.hidden, f.attention), numbers, &order);
    w.recurrent[l + 1] = packed(f.recurrent[at(l)], numbers, &order);
    w.bias[l + 1] = buffer(f.bias[at(l)], &order);
  }
  w.query = packed(f.query, numbers);
  w.energy = buffer(f.energy);
  for (int i = 0; i < 2; ++i) {
    w.dense[i] = packed(f.dense[i], numbers);
    w.dense_bias[i] = buffer(f.dense_bias[i]);
  }
  std::vector<int> pairs;
  for (int m = 0; m < f.mels; ++m) {
    pairs.push_back(m);
    pairs.push_back(f.mels + m);
  }
  w.affine = packed(f.affine, fte::Numbers::fp32, &pairs);
  w.affine_bias = buffer(f.affine_bias, &pairs);
  w.gate = buffer(f.gate);
  w.key = packed(f.key);
  w.filter_weights = buffer(f.filter);
  w.filter_bias = buffer(f.filter_bias);
  const int wide = 2 * f.memory_reach + 1;
  w.memory_weights = fte::Buffer<float>(at(fte::round_up(wide * f.filters * f.memory, fte::kTile)));
  for (int d = 0; d < f.memory; ++d) {
    for (int filter = 0; filter < f.filters; ++filter) {
      for (int k = 0; k < wide; ++k) {
        w.memory_weights[at((k * f.filters + filter) * f.memory + d)] =
            static_cast<float>(f.out.at(d, filter * wide + k));
      }
    }
  }
  w.memory_bias = buffer(f.out_bias);
  return w;
}

}  // namespace fixture
