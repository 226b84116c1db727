// Plain C++ for everything that the kernels compute: one value after the other, in double, from weights row after row.
// Nothing here is shared with the engine, so that both can only agree by being right.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace reference {

using Values = std::vector<double>;

inline std::size_t at(int i) { return static_cast<std::size_t>(i); }

struct Weights {  // (rows, columns)
  int rows = 0, columns = 0;
  std::vector<float> values;
  double at(int row, int column) const {
    return values[static_cast<std::size_t>(row) * static_cast<std::size_t>(columns) + static_cast<std::size_t>(column)];
  }
};

inline Weights random_weights(std::mt19937& generator, int rows, int columns, float scale) {
  std::uniform_real_distribution<float> uniform(-scale, scale);
  Weights w{rows, columns, std::vector<float>(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns))};
  for (float& value : w.values) value = uniform(generator);
  return w;
}

inline Values product(const Weights& w, const Values& x) {
  Values out(static_cast<std::size_t>(w.rows), 0.0);
  for (int row = 0; row < w.rows; ++row) {
    for (int k = 0; k < w.columns; ++k)
      out[static_cast<std::size_t>(row)] += w.at(row, k) * x[static_cast<std::size_t>(k)];
  }
  return out;
}

inline double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// One flow as the paper and the public implementation have it; gates of an LSTM in torch's order, i f g o, whole.
struct Flow {
  int mels, attention, hidden, layers, memory, filters, filter_reach, memory_reach;
  bool has_gate;
  Weights lstm_mel, lstm_recurrent, lstm_bias;   // (4H, M), (4H, H), (1, 4H)
  std::vector<Weights> inputs, recurrent, bias;  // of each decoder layer: (4H, H + A) or (4H, H), (4H, H), (1, 4H)
  Weights query, energy;                         // (A, H), (1, A)
  Weights dense[2], dense_bias[2], affine, affine_bias;  // (H, H), (1, H), (2M, H), (1, 2M): log_s first
  Weights gate;                                          // (1, H + A + 1), its bias last
  Weights key;                                           // (A, D), with cumulative attention
  Weights filter, filter_bias, out, out_bias;  // (filters, 2 * taps), (1, filters), (D, filters * taps), (1, D)
};

// What one utterance is decoded from and what it gives, a row a frame.
struct Utterance {
  std::vector<Values> keys, values, memory;  // of each symbol
  std::vector<Values> z, prior, imposed;     // of each frame; the last two may be empty
  double temperature = 1.0, threshold = 2.0;
};
struct Decoded {
  std::vector<Values> mel, attention;
  Values gate;
};

inline void cell(const Values& sums, Values& c, Values& h) {
  const std::size_t n = h.size();
  for (std::size_t u = 0; u < n; ++u) {
    c[u] = sigmoid(sums[n + u]) * c[u] + sigmoid(sums[u]) * std::tanh(sums[2 * n + u]);
    h[u] = sigmoid(sums[3 * n + u]) * std::tanh(c[u]);
  }
}

inline Values lstm_sums(const Weights& input, const Values& x, const Weights& recurrent, const Values& h,
                        const Weights& bias) {
  Values sums = product(input, x);
  const Values more = product(recurrent, h);
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += more[i] + bias.at(0, static_cast<int>(i));
  return sums;
}

inline void normalise(Values& weights) {
  double total = 0.0;
  for (double each : weights) total += each;
  for (double& each : weights) each /= total;
}

// Keys under cumulative attention: those of the memory times sigmoid(convolutions over past alignment).
inline std::vector<Values> conditioned_keys(const Flow& f, const Utterance& u, const Values& total,
                                            const Values& last) {
  const int symbols = static_cast<int>(u.values.size()), taps = 2 * f.filter_reach + 1,
            out_taps = 2 * f.memory_reach + 1;
  std::vector<Values> hidden(u.values.size(), Values(static_cast<std::size_t>(f.filters)));
  for (int n = 0; n < symbols; ++n) {
    for (int filter = 0; filter < f.filters; ++filter) {
      double sum = f.filter_bias.at(0, filter);
      for (int k = 0; k < taps; ++k) {
        const int from = n + k - f.filter_reach;
        if (from < 0 || from >= symbols) continue;
        const auto i = static_cast<std::size_t>(from);
        sum += f.filter.at(filter, k) * total[i] + f.filter.at(filter, taps + k) * last[i];
      }
      hidden[static_cast<std::size_t>(n)][static_cast<std::size_t>(filter)] = std::fmax(sum, 0.0);
    }
  }
  std::vector<Values> keys;
  for (int n = 0; n < symbols; ++n) {
    Values gated = u.memory[static_cast<std::size_t>(n)];
    for (int d = 0; d < f.memory; ++d) {
      double sum = f.out_bias.at(0, d);
      for (int filter = 0; filter < f.filters; ++filter) {
        for (int k = 0; k < out_taps; ++k) {
          const int from = n + k - f.memory_reach;
          if (from < 0 || from >= symbols) continue;
          sum += f.out.at(d, filter * out_taps + k) *
                 hidden[static_cast<std::size_t>(from)][static_cast<std::size_t>(filter)];
        }
      }
      gated[static_cast<std::size_t>(d)] *= sigmoid(sum);
    }
    keys.push_back(product(f.key, gated));
  }
  return keys;
}

inline Decoded decode(const Flow& f, const Utterance& u) {
  const std::size_t symbols = u.values.size(), h = static_cast<std::size_t>(f.hidden),
                    mels = static_cast<std::size_t>(f.mels);
  Values mel(mels), h0(h), c0(h), total(symbols), last(symbols);
  std::vector<Values> hidden(static_cast<std::size_t>(f.layers), Values(h)), cells = hidden;
  Decoded found;
  for (std::size_t t = 0; t < u.z.size(); ++t) {
    cell(lstm_sums(f.lstm_mel, mel, f.lstm_recurrent, h0, f.lstm_bias), c0, h0);
    const Values query = product(f.query, h0);
    const std::vector<Values> keys = f.filters ? conditioned_keys(f, u, total, last) : u.keys;
    Values weights(symbols);
    for (std::size_t n = 0; n < symbols; ++n) {
      double score = 0.0;
      for (std::size_t a = 0; a < query.size(); ++a)
        score += f.energy.at(0, static_cast<int>(a)) * std::tanh(query[a] + keys[n][a]);
      weights[n] = std::exp(score / u.temperature);
    }
    normalise(weights);
    if (!u.prior.empty()) {
      for (std::size_t n = 0; n < symbols; ++n) weights[n] = (weights[n] + 1e-20) * (u.prior[t][n] + 1e-20);
      normalise(weights);
    }
    if (!u.imposed.empty()) weights = u.imposed[t];
    for (std::size_t n = 0; n < symbols; ++n) {
      total[n] += weights[n];
      last[n] = weights[n];
    }
    Values x = h0;
    for (std::size_t a = 0; a < query.size(); ++a) {
      double context = 0.0;
      for (std::size_t n = 0; n < symbols; ++n) context += weights[n] * u.values[n][a];
      x.push_back(context);
    }
    double gate = 0.0;
    if (f.has_gate) {
      gate = f.gate.at(0, f.gate.columns - 1);
      for (std::size_t i = 0; i < x.size(); ++i) gate += f.gate.at(0, static_cast<int>(i)) * x[i];
      gate = sigmoid(gate);
    }
    for (std::size_t l = 0; l < hidden.size(); ++l) {
      cell(lstm_sums(f.inputs[l], x, f.recurrent[l], hidden[l], f.bias[l]), cells[l], hidden[l]);
      x = hidden[l];
    }
    for (int i = 0; i < 2; ++i) {
      x = product(f.dense[i], x);
      for (std::size_t k = 0; k < x.size(); ++k) x[k] = std::tanh(x[k] + f.dense_bias[i].at(0, static_cast<int>(k)));
    }
    const Values affine = product(f.affine, x);
    for (std::size_t m = 0; m < mels; ++m) {
      const int log_s = static_cast<int>(m), b = f.mels + log_s;
      mel[m] =
          (u.z[t][m] - affine[mels + m] - f.affine_bias.at(0, b)) / std::exp(affine[m] + f.affine_bias.at(0, log_s));
    }
    found.mel.push_back(mel);
    found.attention.push_back(weights);
    found.gate.push_back(gate);
    if (f.has_gate && gate > u.threshold) break;
  }
  return found;
}

}  // namespace reference
