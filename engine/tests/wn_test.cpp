// A layer of WN beside its plain reference, in fp32 and int8, at sizes that fill tiles and sizes that do not.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "check.h"
#include "kernels.h"
#include "reference.h"

namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

struct Layer {  // as torch has it, but taps after each other and skip folded into what WN gives
  int channels, conditions, taps, dilation, outputs, phases;
  reference::Weights tanh, sigmoid, condition_tanh, condition_sigmoid, bias, residual, residual_bias, end;
};

Layer random_layer(std::mt19937& g, int channels, int conditions, int dilation) {
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

// x (G, C) and condition (G, conditions) -> the next x and what is added to WN's output (G, E).
void reference_layer(const Layer& l, const std::vector<reference::Values>& x,
                     const std::vector<reference::Values>& condition, std::vector<reference::Values>* next,
                     std::vector<reference::Values>* out) {
  const int groups = static_cast<int>(x.size());
  for (int g = 0; g < groups; ++g) {
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
    next->push_back(moved);
    out->push_back(reference::product(l.end, gated));
  }
}

fte::Matrix packed(const reference::Weights& w, int first, int count, int width, bool int8) {
  std::vector<float> values(at(w.rows) * at(width));
  for (int row = 0; row < w.rows; ++row) {
    for (int k = 0; k < count; ++k) values[at(row * width + k)] = static_cast<float>(w.at(row, first + k));
  }
  return int8 ? fte::pack_quantized(values.data(), w.rows, width)
              : fte::pack(fte::Numbers::fp32, values.data(), w.rows, width);
}

fte::WnLayer engine_layer(const Layer& l, bool int8) {
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

// Root mean square of the error over that of the values.
double relative_error(const std::vector<float>& found, int stride, const std::vector<reference::Values>& expected) {
  double error = 0.0, power = 0.0;
  for (std::size_t g = 0; g < expected.size(); ++g) {
    for (std::size_t c = 0; c < expected[g].size(); ++c) {
      error += std::pow(found[g * at(stride) + c] - expected[g][c], 2);
      power += std::pow(expected[g][c], 2);
    }
  }
  return std::sqrt(error / power);
}

void check(fte::Instructions instructions, int channels, int conditions, int dilation, int groups, bool int8) {
  std::mt19937 g(7);
  const fte::Kernels& kernels = fte::kernels_for(instructions);
  const Layer layer = random_layer(g, channels, conditions, dilation);
  const fte::WnLayer engine = engine_layer(layer, int8);
  const int width = engine.width, reach = dilation + 2, rows = groups + 2 * reach,
            byte_width = fte::round_up(conditions, 16);
  std::vector<reference::Values> x, condition;
  std::vector<float> flat(at(rows * width)), conditioning, next(flat.size()), out(at(groups * 8));
  for (int i = 0; i < groups; ++i) {
    const reference::Weights row = reference::random_weights(g, 1, channels, 1.0F),
                             more = reference::random_weights(g, 1, conditions, 2.0F);
    x.emplace_back(row.values.begin(), row.values.end());
    condition.emplace_back(more.values.begin(), more.values.end());
    std::copy(row.values.begin(), row.values.end(), flat.begin() + (reach + i) * width);
    conditioning.insert(conditioning.end(), more.values.begin(), more.values.end());
  }
  std::vector<reference::Values> expected_next, expected_out;
  reference_layer(layer, x, condition, &expected_next, &expected_out);

  std::vector<std::uint8_t> bytes(flat.size(), 128), next_bytes(flat.size(), 128),
      condition_bytes(at(groups * byte_width));
  std::vector<float> scales(at(rows)), next_scales(at(rows)), condition_scales(at(groups));
  kernels.quantize_rows(flat.data() + reach * width, width, groups, width, bytes.data() + reach * width, width,
                        scales.data() + reach);
  kernels.quantize_rows(conditioning.data(), conditions, groups, conditions, condition_bytes.data(), byte_width,
                        condition_scales.data());
  fte::WnScratch scratch;
  scratch.gated = fte::Buffer<float>(at(fte::kGroupTile * width));
  scratch.bytes = fte::Buffer<std::uint8_t>(at(fte::kGroupTile * width));
  fte::WnBuffers b;
  b.groups = groups;
  b.reach = reach;
  b.x = flat.data();
  b.next_x = next.data();
  b.x_bytes = bytes.data();
  b.x_scales = scales.data();
  b.next_bytes = next_bytes.data();
  b.next_scales = next_scales.data();
  b.condition = conditioning.data();
  b.condition_bytes = condition_bytes.data();
  b.condition_scales = condition_scales.data();
  b.condition_width = int8 ? byte_width : conditions;
  b.out = out.data();
  b.out_width = layer.outputs;
  b.out_stride = 8;
  kernels.wn_layer(engine, b, 0, groups / 2, scratch);
  kernels.wn_layer(engine, b, groups / 2, groups, scratch);
  const std::vector<float>& moved = int8 ? flat : next;
  const std::vector<float> inner(moved.begin() + reach * width, moved.end() - reach * width);
  const double tolerance = int8 ? 0.02 : 1e-6;
  CHECK(relative_error(inner, width, expected_next) < tolerance);
  CHECK(relative_error(out, 8, expected_out) < tolerance);
  if (!int8) return;
  for (int i = 0; i < groups; ++i) {  // what the next layer reads is the new x
    for (int c = 0; c < channels; ++c) {
      const double level = next_bytes[at((reach + i) * width + c)] - 128.0, scale = next_scales[at(reach + i)];
      CHECK(std::fabs(level * scale - inner[at(i * width + c)]) <= 0.501 * scale);
    }
  }
}

}  // namespace

int main() {
  for (fte::Instructions each : {fte::Instructions::portable, fte::Instructions::avx2, fte::Instructions::avx512vnni}) {
    if (!fte::has(each)) continue;
    for (bool int8 : {false, true}) {
      check(each, 16, 24, 1, 5, int8);
      check(each, 24, 20, 2, 37, int8);
      check(each, 32, 80, 16, 230, int8);
      check(each, 40, 33, 8, 100, int8);
    }
  }
  return 0;
}
