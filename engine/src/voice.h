// A voice bundle as the engine reads it: manifest.json, and the file of tensors that it names for a precision.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "encoder.h"
#include "flow.h"
#include "json.h"
#include "tensors.h"
#include "vocoder.h"

namespace fte {

struct FlowtronSizes {
  int speakers = 0, speaker_channels = 0, symbols = 0, text_channels = 0, flows = 0, mels = 0, attention = 0,
      hidden = 0, layers = 0;
  bool gate = false, cumulative = false, dummy_speaker = false;
};

struct WaveglowSizes {
  int mels = 0, flows = 0, group = 0, early_every = 0, early_size = 0, layers = 0, channels = 0, taps = 0,
      upsample_kernel = 0, stride = 0;
};

// Weights are read when they are first asked for, by any thread.
class Voice {
 public:
  // precision: one that the bundle has for the engine, or "" for int8 where it has that and otherwise its first.
  // With `check`, the file of tensors has to have the SHA-256 that the manifest names. Throws Fault.
  Voice(const std::string& folder, const std::string& precision, bool check);

  const FlowtronSizes& flowtron() const { return flowtron_; }
  bool has_vocoder() const { return has_waveglow_; }
  int sample_rate() const { return sample_rate_; }
  int hop() const { return hop_; }
  const std::string& precision() const { return precision_; }

  // Each throws Fault where the file lacks what it needs.
  const EncoderWeights& encoder();
  const FlowWeights& flow(int k);
  const VocoderWeights& vocoder();

 private:
  void read_manifest(const Json& manifest);
  void choose(const Json& manifest, const std::string& folder, const std::string& precision, bool check);
  std::unique_ptr<EncoderWeights> read_encoder() const;
  std::unique_ptr<FlowWeights> read_flow(int k) const;
  std::unique_ptr<VocoderWeights> read_vocoder() const;
  VocoderFlow read_vocoder_flow(int k, int channels) const;
  void read_layer(WnLayer& layer, const std::string& key, int flow_channels, int i) const;

  FlowtronSizes flowtron_;
  WaveglowSizes waveglow_;
  bool has_waveglow_ = false;
  int sample_rate_ = 0, hop_ = 0;
  std::string precision_;
  std::unique_ptr<TensorFile> tensors_;

  std::mutex reading_;  // guards what follows
  std::unique_ptr<EncoderWeights> encoder_;
  List<std::unique_ptr<FlowWeights>> flows_;
  std::unique_ptr<VocoderWeights> vocoder_;
};

}  // namespace fte
