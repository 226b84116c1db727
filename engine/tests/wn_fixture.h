// A layer of WN with random weights, as its plain reference has it and as the engine does.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels.h"
#include "reference.h"

namespace fixture {

using reference::at;

struct Layer {  // as torch has it, but taps after each other and skip folded into what WN gives
  int channels, conditions, taps, dilation, outputs, phases;
  reference::Weights tanh, sigmoid, condition_tanh, condition_sigmoid, bias, residual, residual_bias, end;
};

inline Layer random_layer(std::mt19937& g, int channels, int conditions, int dilation) {
  const auto draw = [&](int rows, int columns, float scale) {
    return reference::random_weights(g, rows, columns, scale);
  };
  Layer l{channels, conditions, 3, dilation, 6, 4, {}, {}, {}, {}, {}, {}, {}, {}};
  l.tanh = draw(channels, 3 * channels, 0.2F);
  l.sigmoid = draw(channels, 3 * channels, 0.2F);
  l.condition_tanh = draw(channels, conditions, 0.1F);
  l.condition_sigmoid = draw(channels, conditions, 0.1F);
  l.bias = draw(l.phases, 2 * channels, 0.5F);
  l.residual = draw(channels, channels, 0.2F);
  l.residual_bias = draw(1, channels, 0.5F);
  l.end = draw(l.outputs, channels, 0.3F);
  return l;
}

struct Rows {
  std::vector<reference::Values> x, out;
};

// x (G, C) and condition (G, conditions) -> the next x and what is added to WN's output (G, E), of the first groups.
inline Rows reference_layer(const Layer& l, const std::vector<reference::Values>& x,
                            const std::vector<reference::Values>& condition, int count) {
  Rows found;
  const int groups = static_cast<int>(x.size());
  for (int g = 0; g < count; ++g) {
    reference::Values window;
    for (int tap = -1; tap <= 1; ++tap) {
      const int from = g + tap * l.dilation;
      for (int c = 0; c < l.channels; ++c) window.push_back(from < 0 || from >= groups ? 0.0 : x[at(from)][at(c)]);
    }
    const reference::Values a = reference::product(l.tanh, window), b = reference::product(l.sigmoid, window);
    const reference::Values ca = reference::product(l.condition_tanh, condition[at(g)]);
    const reference::Values cb = reference::product(l.condition_sigmoid, condition[at(g)]);
    reference::Values gated;
    for (int c = 0; c < l.channels; ++c) {
      gated.push_back(std::tanh(a[at(c)] + ca[at(c)] + l.bias.at(g % l.phases, c)) *
                      reference::sigmoid(b[at(c)] + cb[at(c)] + l.bias.at(g % l.phases, l.channels + c)));
    }
    reference::Values moved = reference::product(l.residual, gated);
    for (int c = 0; c < l.channels; ++c) moved[at(c)] += x[at(g)][at(c)] + l.residual_bias.at(0, c);
    found.x.push_back(moved);
    found.out.push_back(reference::product(l.end, gated));
  }
  return found;
}

inline fte::Matrix packed(const reference::Weights& w, int first, int count, int width, bool int8) {
  std::vector<float> values(at(w.rows) * at(width));
  for (int row = 0; row < w.rows; ++row) {
    for (int k = 0; k < count; ++k) values[at(row * width + k)] = static_cast<float>(w.at(row, first + k));
  }
  return int8 ? fte::pack_quantized(values.data(), w.rows, width)
              : fte::pack(fte::Numbers::fp32, values.data(), w.rows, width);
}

inline fte::WnLayer engine_layer(const Layer& l, bool int8) {
  fte::WnLayer e;
  const int width = fte::round_up(l.channels, fte::kTile);
  e.quantized = int8;
  e.channels = l.channels;
  e.width = width;
  e.condition = l.conditions;
  e.taps = l.taps;
  e.dilation = l.dilation;
  e.phases = l.phases;
  e.tanh = fte::List<fte::Matrix>(l.taps);
  e.sigmoid = fte::List<fte::Matrix>(l.taps);
  // One scale for all taps of a row, as the exporter has it: quantize whole rows, then cut.
  std::vector<reference::Weights> halves = {l.tanh, l.sigmoid};
  for (int half = 0; half < 2; ++half) {
    for (int tap = 0; tap < l.taps; ++tap) {
      fte::Matrix& to = half ? e.sigmoid[tap] : e.tanh[tap];
      if (!int8) {
        to = packed(halves[at(half)], tap * l.channels, l.channels, width, false);
        continue;
      }
      std::vector<std::int8_t> cut(at(l.channels) * at(width));
      std::vector<float> scales;
      for (int row = 0; row < l.channels; ++row) {
        float most = 0.0F;
        for (int k = 0; k < 3 * l.channels; ++k)
          most = std::fmax(most, std::fabs(static_cast<float>(halves[at(half)].at(row, k))));
        scales.push_back(most / 127.0F);
        for (int k = 0; k < l.channels; ++k) {
          cut[at(row * width + k)] =
              static_cast<std::int8_t>(std::nearbyint(halves[at(half)].at(row, tap * l.channels + k) / scales.back()));
        }
      }
      to = fte::pack(fte::Numbers::int8, cut.data(), l.channels, width, scales.data());
    }
  }
  e.condition_tanh = packed(l.condition_tanh, 0, l.conditions, l.conditions, int8);
  e.condition_sigmoid = packed(l.condition_sigmoid, 0, l.conditions, l.conditions, int8);
  e.bias = fte::Buffer<float>(at(l.phases * 2 * width));
  for (int phase = 0; phase < l.phases; ++phase) {
    for (int c = 0; c < l.channels; ++c) {
      e.bias[at(phase * 2 * width + c)] = static_cast<float>(l.bias.at(phase, c));
      e.bias[at(phase * 2 * width + width + c)] = static_cast<float>(l.bias.at(phase, l.channels + c));
    }
  }
  e.residual = packed(l.residual, 0, l.channels, width, int8);
  e.residual_bias = fte::Buffer<float>(at(width));
  for (int c = 0; c < l.channels; ++c) e.residual_bias[at(c)] = static_cast<float>(l.residual_bias.at(0, c));
  if (!int8) {
    e.end = packed(l.end, 0, l.channels, width, false);
    return e;
  }
  std::vector<std::int8_t> digits(at(2 * l.outputs) * at(width));
  const std::vector<float> ones(at(2 * l.outputs), 1.0F);
  e.end_scales = fte::Buffer<float>(at(l.outputs));
  for (int row = 0; row < l.outputs; ++row) {
    float most = 0.0F;
    for (int k = 0; k < l.channels; ++k) most = std::fmax(most, std::fabs(static_cast<float>(l.end.at(row, k))));
    e.end_scales[at(row)] = most / 16256.0F / 127.0F;
    for (int k = 0; k < l.channels; ++k) {
      const int level = static_cast<int>(std::nearbyint(l.end.at(row, k) / (most / 16256.0F)));
      const int high = static_cast<int>(std::nearbyint(level / 128.0));
      digits[at(row * width + k)] = static_cast<std::int8_t>(high);
      digits[at((l.outputs + row) * width + k)] = static_cast<std::int8_t>(level - 128 * high);
    }
  }
  e.end = fte::pack(fte::Numbers::int8, digits.data(), 2 * l.outputs, width, ones.data());
  return e;
}

// A layer over random groups, by the engine and by the reference.
class LayerRun {
 public:
  LayerRun(const fte::Kernels& kernels, int channels, int conditions, int dilation, int groups, bool int8)
      : kernels_(kernels),
        generator_(7),
        layer_(random_layer(generator_, channels, conditions, dilation)),
        engine_(engine_layer(layer_, int8)),
        reach_(dilation + 2) {
    const int width = engine_.width, rows = groups + 2 * reach_, byte_width = fte::round_up(conditions, 16);
    flat_.resize(at(rows * width));
    next_.resize(flat_.size());
    out_.resize(at(groups * kOutStride));
    bytes_.assign(flat_.size(), 128);
    next_bytes_.assign(flat_.size(), 128);
    condition_bytes_.resize(at(groups * byte_width));
    scales_.resize(at(rows));
    next_scales_.resize(at(rows));
    condition_scales_.resize(at(groups));
    for (int i = 0; i < groups; ++i) {
      const reference::Weights row = reference::random_weights(generator_, 1, channels, 1.0F),
                               more = reference::random_weights(generator_, 1, conditions, 2.0F);
      x_.emplace_back(row.values.begin(), row.values.end());
      condition_.emplace_back(more.values.begin(), more.values.end());
      std::copy(row.values.begin(), row.values.end(), flat_.begin() + (reach_ + i) * width);
      conditioning_.insert(conditioning_.end(), more.values.begin(), more.values.end());
    }
    kernels_.quantize_rows(flat_.data() + reach_ * width, width, groups, width, bytes_.data() + reach_ * width, width,
                           scales_.data() + reach_);
    kernels_.quantize_rows(conditioning_.data(), conditions, groups, conditions, condition_bytes_.data(), byte_width,
                           condition_scales_.data());
    scratch_.gated = fte::Buffer<float>(at(fte::kGroupTile * width));
    scratch_.bytes = fte::Buffer<std::uint8_t>(at(fte::kGroupTile * width));
    buffers_.groups = groups;
    buffers_.reach = reach_;
    buffers_.x = flat_.data();
    buffers_.next_x = next_.data();
    buffers_.x_bytes = bytes_.data();
    buffers_.x_scales = scales_.data();
    buffers_.next_bytes = next_bytes_.data();
    buffers_.next_scales = next_scales_.data();
    buffers_.condition = conditioning_.data();
    buffers_.condition_bytes = condition_bytes_.data();
    buffers_.condition_scales = condition_scales_.data();
    buffers_.condition_width = int8 ? byte_width : conditions;
    buffers_.out = out_.data();
    buffers_.out_width = layer_.outputs;
    buffers_.out_stride = kOutStride;
  }

  Rows expect(int groups) const { return reference_layer(layer_, x_, condition_, groups); }

  // Groups first to last; in int8 their x becomes the next one, so once for each group.
  void run(int first, int last) { kernels_.wn_layer(engine_, buffers_, first, last, scratch_); }

  // Of the first groups: the error's root mean square over that of the values.
  double error_of_x(const Rows& expected) const { return relative_error(x(0), engine_.width, expected.x); }
  double error_of_out(const Rows& expected) const { return relative_error(out_.data(), kOutStride, expected.out); }

  const float* x(int group) const {
    return (engine_.quantized ? flat_ : next_).data() + (reach_ + group) * engine_.width;
  }
  double next_level(int group, int channel) const {
    return next_bytes_[at((reach_ + group) * engine_.width + channel)] - 128.0;
  }
  double next_scale(int group) const { return next_scales_[at(reach_ + group)]; }

  // Multiply-adds for a group.
  double work() const {
    const double c = layer_.channels;
    return 2 * c * (layer_.taps * c + layer_.conditions) + c * c + layer_.outputs * c;
  }

 private:
  static constexpr int kOutStride = 8;

  static double relative_error(const float* found, int stride, const std::vector<reference::Values>& expected) {
    double error = 0.0, power = 0.0;
    for (std::size_t g = 0; g < expected.size(); ++g) {
      for (std::size_t c = 0; c < expected[g].size(); ++c) {
        error += std::pow(found[g * at(stride) + c] - expected[g][c], 2);
        power += std::pow(expected[g][c], 2);
      }
    }
    return std::sqrt(error / power);
  }

  const fte::Kernels& kernels_;
  std::mt19937 generator_;
  Layer layer_;
  fte::WnLayer engine_;
  int reach_;
  std::vector<reference::Values> x_, condition_;
  std::vector<float> flat_, conditioning_, next_, out_, scales_, next_scales_, condition_scales_;
  std::vector<std::uint8_t> bytes_, next_bytes_, condition_bytes_;
  fte::WnScratch scratch_;
  fte::WnBuffers buffers_;
};

}  // namespace fixture
