// A flow beside its plain reference: a batch whose utterances each have their own everything, every form of attention,
// all instructions at hand, one to three workers. The stages are those that a GPU runs.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "check.h"
#include "decoder.h"
#include "reference.h"

namespace {

std::size_t at(int i) { return static_cast<std::size_t>(i); }

constexpr int kMels = 6, kMemory = 20, kFilters = 4;

reference::Flow random_flow(std::mt19937& g, int hidden, int attention, int layers, bool cumulative, bool gate) {
  const auto draw = [&](int rows, int columns, float scale) {
    return reference::random_weights(g, rows, columns, scale);
  };
  reference::Flow f{};
  f.mels = kMels;
  f.attention = attention;
  f.hidden = hidden;
  f.layers = layers;
  f.memory = kMemory;
  f.filters = cumulative ? kFilters : 0;
  f.filter_reach = 2;
  f.memory_reach = 1;
  f.has_gate = gate;
  f.lstm_mel = draw(4 * hidden, kMels, 0.5F);
  f.lstm_recurrent = draw(4 * hidden, hidden, 0.4F);
  f.lstm_bias = draw(1, 4 * hidden, 0.5F);
  for (int l = 0; l < layers; ++l) {
    f.inputs.push_back(draw(4 * hidden, l ? hidden : hidden + attention, 0.4F));
    f.recurrent.push_back(draw(4 * hidden, hidden, 0.4F));
    f.bias.push_back(draw(1, 4 * hidden, 0.5F));
  }
  f.query = draw(attention, hidden, 0.6F);
  f.energy = draw(1, attention, 1.0F);
  for (int i = 0; i < 2; ++i) {
    f.dense[i] = draw(hidden, hidden, 0.4F);
    f.dense_bias[i] = draw(1, hidden, 0.5F);
  }
  f.affine = draw(2 * kMels, hidden, 0.2F);
  f.affine_bias = draw(1, 2 * kMels, 0.2F);
  f.gate = draw(1, hidden + attention + 1, 0.5F);
  f.key = draw(attention, kMemory, 0.5F);
  f.filter = draw(kFilters, 2 * 5, 0.7F);
  f.filter_bias = draw(1, kFilters, 0.5F);
  f.out = draw(kMemory, kFilters * 3, 0.7F);
  f.out_bias = draw(1, kMemory, 0.5F);
  return f;
}

std::vector<int> unit_order(int hidden) {
  std::vector<int> order;
  for (int u = 0; u < hidden; ++u) {
    for (int gate = 0; gate < 4; ++gate) order.push_back(gate * hidden + u);
  }
  return order;
}

fte::Matrix packed(const reference::Weights& w, const std::vector<int>* order = nullptr, bool int8 = false) {
  if (!int8) return fte::pack(fte::Numbers::fp32, w.values.data(), w.rows, w.columns, nullptr, order);
  reference::Weights ordered = w;
  for (int row = 0; order && row < w.rows; ++row) {
    for (int k = 0; k < w.columns; ++k) {
      ordered.values[at(row * w.columns + k)] = static_cast<float>(w.at((*order)[at(row)], k));
    }
  }
  return fte::pack_quantized(ordered.values.data(), w.rows, w.columns);
}

reference::Weights columns(const reference::Weights& w, int first, int count) {
  reference::Weights found{w.rows, count, {}};
  for (int row = 0; row < w.rows; ++row) {
    for (int k = 0; k < count; ++k) found.values.push_back(static_cast<float>(w.at(row, first + k)));
  }
  return found;
}

fte::Buffer<float> buffer(const reference::Weights& w, const std::vector<int>* order = nullptr) {
  fte::Buffer<float> found(at(fte::round_up(static_cast<int>(w.values.size()), fte::kTile)));
  for (std::size_t i = 0; i < w.values.size(); ++i) found[i] = w.values[order ? at((*order)[i]) : i];
  return found;
}

fte::FlowWeights weights_of(const reference::Flow& f, bool int8) {
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
  w.mel = packed(f.lstm_mel, &order);
  w.recurrent = fte::List<fte::Matrix>(1 + f.layers);
  w.bias = fte::List<fte::Buffer<float>>(1 + f.layers);
  w.late = fte::List<fte::Matrix>(f.layers);
  w.recurrent[0] = packed(f.lstm_recurrent, &order, int8);
  w.bias[0] = buffer(f.lstm_bias, &order);
  w.early = packed(columns(f.inputs[0], 0, f.hidden), &order, int8);
  for (int l = 0; l < f.layers; ++l) {
    w.late[l] = packed(l ? f.inputs[at(l)] : columns(f.inputs[0], f.hidden, f.attention), &order, int8);
    w.recurrent[l + 1] = packed(f.recurrent[at(l)], &order, int8);
    w.bias[l + 1] = buffer(f.bias[at(l)], &order);
  }
  w.query = packed(f.query, nullptr, int8);
  w.energy = buffer(f.energy);
  for (int i = 0; i < 2; ++i) {
    w.dense[i] = packed(f.dense[i], nullptr, int8);
    w.dense_bias[i] = buffer(f.dense_bias[i]);
  }
  std::vector<int> pairs;
  for (int m = 0; m < f.mels; ++m) {
    pairs.push_back(m);
    pairs.push_back(f.mels + m);
  }
  w.affine = packed(f.affine, &pairs);
  w.affine_bias = buffer(f.affine_bias, &pairs);
  w.gate = buffer(f.gate);
  w.key = packed(f.key);
  w.filter_weights = buffer(f.filter);
  w.filter_bias = buffer(f.filter_bias);
  w.memory_weights = fte::Buffer<float>(at(fte::round_up(3 * kFilters * kMemory, fte::kTile)));
  for (int d = 0; d < kMemory; ++d) {
    for (int filter = 0; filter < kFilters; ++filter) {
      for (int k = 0; k < 3; ++k) {
        w.memory_weights[at((k * kFilters + filter) * kMemory + d)] = static_cast<float>(f.out.at(d, filter * 3 + k));
      }
    }
  }
  w.memory_bias = buffer(f.out_bias);
  return w;
}

std::vector<reference::Values> random_rows(std::mt19937& g, int count, int width, bool positive = false) {
  std::vector<reference::Values> rows;
  for (int i = 0; i < count; ++i) {
    const reference::Weights w = reference::random_weights(g, 1, width, 1.0F);
    rows.emplace_back(w.values.begin(), w.values.end());
    if (!positive) continue;
    for (double& value : rows.back()) value = static_cast<float>(std::fabs(value) + 0.01);
    if (i % 5 == 0) rows.back()[0] = 0.0;
  }
  return rows;
}

struct Case {
  const char* name;
  int hidden, attention, layers;
  bool cumulative, gate, prior, imposed;
};

const Case kCases[] = {
    {"plain", 24, 40, 2, false, false, false, false},     {"gate", 16, 16, 1, false, true, false, false},
    {"prior", 20, 24, 2, false, true, true, false},       {"imposed", 24, 17, 3, false, false, false, true},
    {"cumulative", 24, 40, 2, true, false, false, false}, {"all", 28, 33, 2, true, true, true, true},
};

// Run a batch in blocks of frames of 3, 1 and 4 in turn; each utterance's rows.
std::vector<reference::Decoded> decode(const fte::FlowWeights& weights, const std::vector<reference::Utterance>& asked,
                                       fte::Instructions instructions, int workers) {
  const int batch = static_cast<int>(asked.size()), attention = weights.sizes.attention;
  int symbols = 0, frames = 0;
  for (const reference::Utterance& u : asked) {
    symbols = std::max(symbols, static_cast<int>(u.values.size()));
    frames = std::max(frames, static_cast<int>(u.z.size()));
  }
  std::vector<float> keys(at(batch * symbols * attention)), values(keys.size()), memory(at(batch * symbols * kMemory));
  std::vector<float> temperatures, thresholds;
  std::vector<std::int32_t> texts, lengths;
  std::vector<std::uint8_t> is_imposed;
  bool prior = false, imposed = false;
  for (int b = 0; b < batch; ++b) {
    const reference::Utterance& u = asked[at(b)];
    for (std::size_t n = 0; n < u.values.size(); ++n) {
      for (int a = 0; a < attention; ++a) {
        keys[(at(b * symbols) + n) * at(attention) + at(a)] = static_cast<float>(u.keys[n][at(a)]);
        values[(at(b * symbols) + n) * at(attention) + at(a)] = static_cast<float>(u.values[n][at(a)]);
      }
      for (int d = 0; d < kMemory; ++d)
        memory[(at(b * symbols) + n) * kMemory + at(d)] = static_cast<float>(u.memory[n][at(d)]);
    }
    texts.push_back(static_cast<int>(u.values.size()));
    lengths.push_back(static_cast<int>(u.z.size()));
    temperatures.push_back(static_cast<float>(u.temperature));
    thresholds.push_back(static_cast<float>(u.threshold));
    is_imposed.push_back(!u.imposed.empty());
    prior |= !u.prior.empty();
    imposed |= !u.imposed.empty();
  }
  fte::Team team(workers);
  fte::FlowInputs inputs;
  inputs.batch = batch;
  inputs.symbols = symbols;
  inputs.keys = keys.data();
  inputs.values = values.data();
  inputs.memory = memory.data();
  inputs.texts = texts.data();
  inputs.frames = lengths.data();
  inputs.temperatures = temperatures.data();
  inputs.thresholds = thresholds.data();
  inputs.imposed = imposed ? is_imposed.data() : nullptr;
  fte::FlowRun run(weights, fte::kernels_for(instructions), team, inputs);

  std::vector<reference::Decoded> found(asked.size());
  const int kBlocks[] = {3, 1, 4};
  for (int start = 0, turn = 0; start < frames; start += kBlocks[turn++ % 3]) {
    const int count = kBlocks[turn % 3];
    std::vector<float> z(at(count * batch * kMels)), priors(at(count * batch * symbols), 1.0F), given(priors.size());
    for (int t = 0; t < count; ++t) {
      for (int b = 0; b < batch; ++b) {
        const reference::Utterance& u = asked[at(b)];
        if (start + t >= static_cast<int>(u.z.size())) continue;
        for (int m = 0; m < kMels; ++m)
          z[at((t * batch + b) * kMels + m)] = static_cast<float>(u.z[at(start + t)][at(m)]);
        for (std::size_t n = 0; n < u.values.size(); ++n) {
          const std::size_t place = at((t * batch + b) * symbols) + n;
          if (!u.prior.empty()) priors[place] = static_cast<float>(u.prior[at(start + t)][n]);
          if (!u.imposed.empty()) given[place] = static_cast<float>(u.imposed[at(start + t)][n]);
        }
      }
    }
    std::vector<float> mel(z.size(), 9.0F), attended(priors.size(), 9.0F), gate(at(count * batch), 9.0F);
    std::vector<int> left;
    for (int b = 0; b < batch; ++b) left.push_back(run.remaining(b));
    fte::FlowFrames block;
    block.count = count;
    block.z = z.data();
    block.prior = prior ? priors.data() : nullptr;
    block.imposed = imposed ? given.data() : nullptr;
    block.mel = mel.data();
    block.attention = attended.data();
    block.gate = gate.data();
    run.run(block);
    for (int b = 0; b < batch; ++b) {
      bool over = left[at(b)] == 0;
      for (int t = 0; t < count; ++t) {
        const float* row = mel.data() + (t * batch + b) * kMels;
        const float* weight = attended.data() + (t * batch + b) * symbols;
        const std::size_t done = found[at(b)].mel.size();
        over |= done == asked[at(b)].z.size() ||
                (done && weights.sizes.gate && found[at(b)].gate.back() > asked[at(b)].threshold);
        if (over) {
          for (int m = 0; m < kMels; ++m) CHECK(row[m] == 0.0F);
          for (int n = 0; n < symbols; ++n) CHECK(weight[n] == 0.0F);
          continue;
        }
        found[at(b)].mel.emplace_back(row, row + kMels);
        found[at(b)].attention.emplace_back(weight, weight + texts[at(b)]);
        found[at(b)].gate.push_back(weights.sizes.gate ? gate[at(t * batch + b)] : 0.0);
        for (int n = texts[at(b)]; n < symbols; ++n) CHECK(weight[n] == 0.0F);
      }
      if (over) CHECK(run.remaining(b) == 0);
    }
  }
  return found;
}

double largest_difference(const std::vector<reference::Values>& a, const std::vector<reference::Values>& b) {
  CHECK(a.size() == b.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i].size() == b[i].size());
    for (std::size_t k = 0; k < a[i].size(); ++k) largest = std::fmax(largest, std::fabs(a[i][k] - b[i][k]));
  }
  return largest;
}

void check_case(const Case& c, fte::Instructions instructions, bool int8) {
  std::mt19937 g(5);
  const reference::Flow flow = random_flow(g, c.hidden, c.attention, c.layers, c.cumulative, c.gate);
  std::vector<reference::Utterance> asked;
  for (int b = 0; b < 5; ++b) {
    const int symbols = 3 + 4 * b, frames = b == 2 ? 1 : 14 + b;
    reference::Utterance u;
    u.memory = random_rows(g, symbols, kMemory);
    for (const reference::Values& row : u.memory) u.keys.push_back(reference::product(flow.key, row));
    for (reference::Values& row : u.keys) {
      for (double& value : row) value = static_cast<float>(value);
    }
    u.values = random_rows(g, symbols, c.attention);
    u.z = random_rows(g, frames, kMels);
    if (c.prior) u.prior = random_rows(g, frames, symbols, true);
    if (c.imposed && b % 2) u.imposed = random_rows(g, frames, symbols, true);
    u.temperature = b == 1 ? 0.5 : 1.0;
    u.threshold = b == 3 ? 0.45 : b == 4 ? 0.6 : 2.0;
    asked.push_back(u);
  }
  const fte::FlowWeights weights = weights_of(flow, int8);
  const std::vector<reference::Decoded> one = decode(weights, asked, instructions, 1);
  const std::vector<reference::Decoded> three = decode(weights, asked, instructions, 3);
  const double tolerance = int8 ? 0.1 : 2e-5;
  for (std::size_t b = 0; b < asked.size(); ++b) {
    const reference::Decoded expected = reference::decode(flow, asked[b]);
    const reference::Decoded alone = decode(weights, {asked[b]}, instructions, 2)[0];
    CHECK(largest_difference(one[b].mel, three[b].mel) == 0.0);  // neither workers nor neighbours change a bit
    CHECK(largest_difference(one[b].mel, alone.mel) == 0.0);
    CHECK(largest_difference(one[b].attention, alone.attention) == 0.0);
    CHECK(largest_difference({one[b].gate}, {alone.gate}) == 0.0);
    if (int8 && one[b].mel.size() != expected.mel.size()) continue;  // a gate near its threshold
    CHECK(largest_difference(one[b].mel, expected.mel) < tolerance);
    CHECK(largest_difference(one[b].attention, expected.attention) < tolerance);
    CHECK(largest_difference({one[b].gate}, {expected.gate}) < tolerance);
  }
}

}  // namespace

int main() {
  for (fte::Instructions each : {fte::Instructions::portable, fte::Instructions::avx2, fte::Instructions::avx512vnni}) {
    if (!fte::has(each)) continue;
    for (const Case& c : kCases) {
      std::printf("%s, %s\n", fte::name_of(each), c.name);
      check_case(c, each, false);
      check_case(c, each, true);
    }
  }
  return 0;
}
