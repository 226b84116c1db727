// What the CPU at hand can do, asked once at run time.
#pragma once

namespace fte {

enum class Instructions { portable, avx2, avx512vnni };

// The best that this CPU and this build have.
Instructions best_instructions();

// Whether this CPU and this build have them.
bool has(Instructions wanted);

const char* name_of(Instructions instructions);

}  // namespace fte
