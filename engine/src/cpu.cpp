#include "cpu.h"

#include <initializer_list>

namespace fte {

bool has(Instructions wanted) {
#if defined(__x86_64__)
  switch (wanted) {
    case Instructions::portable:
      return true;
    case Instructions::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
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
