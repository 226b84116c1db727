#include "kernels_body.h"

namespace fte {

const Kernels& avx512vnni_kernels() { return kKernels; }

}  // namespace fte
