// A flow on an NVIDIA GPU: one cooperative launch stays on the chip for all frames of a block.
#pragma once

#include <cstdint>
#include <memory>

#include "decoder.h"
#include "flow.h"

namespace fte {

// The weights of a flow in the GPU's memory, fp16 or int8 as they are packed; fp32 and bf16 become fp32.
class GpuFlow {
 public:
  // Throws Fault where there is no GPU, or none with cooperative launches.
  explicit GpuFlow(const FlowWeights& weights);
  ~GpuFlow();

  struct Parts;
  const Parts& parts() const { return *parts_; }

 private:
  std::unique_ptr<Parts> parts_;
};

// As FlowRun, whose inputs and frames it takes; all pointers are to the host's memory. Best with many frames at once:
// each call copies int8 weights into the multiprocessors' shared memory anew, where they fit there.
class GpuFlowRun {
 public:
  GpuFlowRun(const GpuFlow& flow, const FlowInputs& inputs);
  ~GpuFlowRun();

  void run(const FlowFrames& frames);

  // Milliseconds that the kernel of the last run took, by the GPU's own clock.
  float milliseconds() const;

  // Whether int8 weights lie in shared memory.
  bool resident() const;

 private:
  struct State;
  const GpuFlow& flow_;
  std::unique_ptr<State> state_;
};

}  // namespace fte
