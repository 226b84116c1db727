// How a function is marked that CPUs and GPUs share, and that each file shall have for its own instructions.
#pragma once

#if defined(__CUDACC__)
#define FTE_EVERYWHERE __host__ __device__ __forceinline__
#else
#define FTE_EVERYWHERE inline __attribute__((always_inline))
#endif
