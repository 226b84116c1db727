// A layer of WN beside its plain reference, in fp32 and int8, at sizes that fill tiles and sizes that do not.
#include <cmath>

#include "check.h"
#include "wn_fixture.h"

namespace {

void check(fte::Instructions instructions, int channels, int conditions, int dilation, int groups, bool int8) {
  fixture::LayerRun run(fte::kernels_for(instructions), channels, conditions, dilation, groups, int8);
  const fixture::Rows expected = run.expect(groups);
  run.run(0, groups / 2);
  run.run(groups / 2, groups);
  const double tolerance = int8 ? 0.02 : 1e-6;
  CHECK(run.error_of_x(expected) < tolerance);
  CHECK(run.error_of_out(expected) < tolerance);
  if (!int8) return;
  for (int i = 0; i < groups; ++i) {  // what the next layer reads is the new x
    for (int c = 0; c < channels; ++c) {
      const double scale = run.next_scale(i);
      CHECK(std::fabs(run.next_level(i, c) * scale - run.x(i)[c]) <= 0.501 * scale);
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
