#include "kernels_body.h"

namespace fte {

const Kernels& portable_kernels() { return kKernels; }

}  // namespace fte
