// Gaussian noise that belongs to a request: value for value that of fte.noise in Python, which explains it.
#pragma once

#include <cstdint>

namespace fte {

enum class NoiseStream : std::uint64_t { prior = 0, vocoder = 1 };

// Row `row` of standard normal values (width).
void normal_row(std::uint64_t seed, std::uint64_t request, NoiseStream stream, std::uint64_t row, int width,
                float* out);

}  // namespace fte
