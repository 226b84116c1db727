#include "kernels_body.h"

namespace fte {

const Kernels& avx2_kernels() { return kKernels; }

}  // namespace fte
