#include "kernels.h"

namespace fte {

const Kernels& portable_kernels();
const Kernels& avx2_kernels();
const Kernels& avx512vnni_kernels();

const Kernels& kernels_for(Instructions instructions) {
#if defined(__x86_64__)
  if (instructions == Instructions::avx512vnni) return avx512vnni_kernels();
  if (instructions == Instructions::avx2) return avx2_kernels();
#endif
  (void)instructions;
  return portable_kernels();
}

}  // namespace fte
