// A flow beside its plain reference: a batch whose utterances each have their own everything, every form of attention,
// all instructions at hand, one to three workers. The stages are those that a GPU runs.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "check.h"
#include "decoder.h"
#include "flow_fixture.h"
#include "reference.h"

namespace {

using fixture::at;

constexpr int kMels = 6, kMemory = 20;

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

fte::FlowSizes sizes_of(const Case& c) {
  fte::FlowSizes n;
  n.mels = kMels;
  n.attention = c.attention;
  n.hidden = c.hidden;
  n.layers = c.layers;
  n.memory = kMemory;
  n.filters = c.cumulative ? 4 : 0;
  n.filter_reach = 2;
  n.memory_reach = 1;
  n.gate = c.gate;
  return n;
}

void check_case(const Case& c, fte::Instructions instructions, bool int8) {
  std::mt19937 g(5);
  const reference::Flow flow = fixture::random_flow(g, sizes_of(c));
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
  const fte::FlowWeights weights = fixture::weights_of(flow, int8 ? fte::Numbers::int8 : fte::Numbers::fp32);
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
