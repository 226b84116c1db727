#include "cpu.h"

#include <initializer_list>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fte {

#if defined(__x86_64__)
namespace {
// Which __builtin_cpu_supports does not know of everywhere.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
}  // namespace
#endif

bool has(Instructions wanted) {
#if defined(__x86_64__)
  switch (wanted) {
    case Instructions::portable:
      return true;
    case Instructions::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    case Instructions::avx512vnni:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  }
  return false;
#else
  return wanted == Instructions::portable;
#endif
}

Instructions best_instructions() {
  for (Instructions each : {Instructions::avx512vnni, Instructions::avx2}) {
    if (has(each)) return each;
  }
  return Instructions::portable;
}

const char* name_of(Instructions instructions) {
  switch (instructions) {
    case Instructions::portable:
      return "portable";
    case Instructions::avx2:
      return "AVX2";
    case Instructions::avx512vnni:
      return "AVX-512 VNNI";
  }
  return "unknown";
}

}  // namespace fte
