// Kernels on one thread beside the plain reference: that they agree, how much faster they are, and what part that is of
// what a core multiplies (from registers) or reads (from its cache) with the best instructions it has.
#include <cmath>
#include <cstdio>
#include <random>
#include <vector>

#include "ceiling.h"
#include "flow_fixture.h"
#include "wn_fixture.h"

namespace {

using fixture::at;

constexpr fte::Instructions kAll[] = {fte::Instructions::portable, fte::Instructions::avx2,
                                      fte::Instructions::avx512vnni};

void report(fte::Instructions instructions, const char* what, double done, const char* unit, double seconds,
            double ceiling, double plain_seconds, double error) {
  std::printf("  %-12s %-36s %7.1f %s, %3.0f %% of the ceiling, %6.1f x plain, error %.1g\n",
              fte::name_of(instructions), what, done / seconds / 1e9, unit, 100 * done / seconds / 1e9 / ceiling,
              plain_seconds / seconds, error);
}

void measure_products(fte::Instructions instructions, double multiplied, double read) {
  const fte::Kernels& kernels = fte::kernels_for(instructions);
  std::mt19937 generator(3);
  for (int size : {256, 1024}) {
    const reference::Weights w = reference::random_weights(generator, size, size, 0.05F);
    for (int count : {1, 64}) {
      const reference::Weights x = reference::random_weights(generator, count, size, 1.0F);
      const fte::Matrix m = fixture::packed(w);
      std::vector<float> out(at(count) * at(size));
      const double seconds = ceiling::best_seconds(
          [&] { kernels.multiply(m, x.values.data(), size, count, 0, m.tiles(), out.data(), size, false); });
      const double start = ceiling::seconds_now();
      const reference::Values expected =
          reference::product(w, {x.values.begin(), x.values.begin() + size});  // of the first vector
      const double plain = (ceiling::seconds_now() - start) * count;
      double error = 0.0;
      for (int row = 0; row < size; ++row) error = std::fmax(error, std::fabs(out[at(row)] - expected[at(row)]));
      char what[60];
      std::snprintf(what, sizeof what, "product %d x %d, %d vectors", size, size, count);
      const double work = double{1} * size * size * count;
      if (count == 1) {
        report(instructions, what, 4 * work, "GB/s ", seconds, read, plain, error);
      } else {
        report(instructions, what, work, "Gmac/s", seconds, multiplied, plain, error);
      }
    }
  }
}

void measure_layers(fte::Instructions instructions, bool int8, double multiplied) {
  const struct {
    int channels, conditions, dilation, groups;
  } kSizes[] = {
      {64, 160, 4, 384}, {256, 640, 1, 192}, {256, 640, 128, 768}};  // the last two are WaveGlow's as published
  for (const auto& size : kSizes) {
    fixture::LayerRun run(fte::kernels_for(instructions), size.channels, size.conditions, size.dilation, size.groups,
                          int8);
    const int checked = 16;
    const double start = ceiling::seconds_now();
    const fixture::Rows expected = run.expect(checked);
    const double plain = (ceiling::seconds_now() - start) / checked * size.groups;
    run.run(0, size.groups);
    const double error = std::fmax(run.error_of_x(expected), run.error_of_out(expected));
    const double seconds =
        ceiling::best_seconds([&] { run.run(0, size.groups); }, instructions == fte::Instructions::portable ? 2 : 15);
    char what[60];
    std::snprintf(what, sizeof what, "WN %s, %d channels, %d groups", int8 ? "int8" : "fp32", size.channels,
                  size.groups);
    report(instructions, what, run.work() * size.groups, "Gmac/s", seconds, multiplied, plain, error);
  }
}

void measure_cells(fte::Instructions instructions) {
  std::mt19937 generator(5);
  for (int units : {128, 1024}) {
    const reference::Weights sums = reference::random_weights(generator, units, 4, 5.0F);
    std::vector<float> cell(at(units)), hidden(at(units));
    const auto step = [&] {
      fte::kernels_for(instructions).lstm_cells(sums.values.data(), cell.data(), hidden.data(), units);
    };
    step();
    reference::Values torch_order, c(at(units)), h(at(units));
    for (int gate = 0; gate < 4; ++gate) {
      for (int u = 0; u < units; ++u) torch_order.push_back(sums.at(u, gate));
    }
    reference::cell(torch_order, c, h);
    double error = 0.0;
    for (int u = 0; u < units; ++u) error = std::fmax(error, std::fabs(hidden[at(u)] - h[at(u)]));
    const double seconds = ceiling::best_seconds([&] {
                             for (int i = 0; i < 1000; ++i) step();
                           }) /
                           1000,
                 plain = ceiling::best_seconds([&] { reference::cell(torch_order, c, h); });
    std::printf(
        "  %-12s LSTM cells, %4d units                %7.2f units/ns,                    %6.1f x plain, error %.1g\n",
        fte::name_of(instructions), units, units / seconds / 1e9, plain / seconds, error);
  }
}

}  // namespace

int main() {
  fte::Team alone(1);
  const double fp32 = ceiling::multiply_rate(alone, false), int8 = ceiling::multiply_rate(alone, true),
               read = ceiling::read_rate(alone, std::size_t{1} << 19);
  std::printf("one core with %s: %.0f G multiply-adds/s in fp32, %.0f in int8; it reads its cache at %.0f GB/s\n",
              fte::name_of(fte::best_instructions()), fp32, int8, read);
  for (fte::Instructions each : kAll) {
    if (!fte::has(each)) continue;
    measure_products(each, fp32, read);
    measure_layers(each, false, fp32);
    measure_layers(each, true, int8);
    measure_cells(each);
  }
  return 0;
}
