// A voice bundle as the engine reads it: manifest.json, and the file of tensors that it names for a precision.
#pragma once

#include <memory>
#include <string>
#include <vector>

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

// All weights are read and checked when a voice is opened, and do not change from then on.
class Voice {
 public:
  // precision: one that the bundle has for the engine, or "" for int8 where it has that and otherwise its first.
  // With `check`, the file of tensors has to have the SHA-256 that the manifest names. Throws Fault, also where the
  // tensors are not exactly those of a voice of the manifest's sizes.
  Voice(const std::string& folder, const std::string& precision, bool check);

  const FlowtronSizes& flowtron() const { return flowtron_; }
  bool has_vocoder() const { return has_waveglow_; }
  int sample_rate() const { return sample_rate_; }
  int hop() const { return hop_; }
  const std::string& precision() const { return precision_; }

  const EncoderWeights& encoder() const { return *encoder_; }
  const FlowWeights& flow(int k) const { return *flows_[k]; }
  const VocoderWeights& vocoder() const;  // throws Fault where there is none

 private:
  void read_manifest(const Json& manifest);
  void choose(const Json& manifest, const std::string& folder, const std::string& precision, bool check);
  void read_weights();
  std::unique_ptr<EncoderWeights> read_encoder();
  std::unique_ptr<FlowWeights> read_flow(int k);
  std::unique_ptr<VocoderWeights> read_vocoder();
  VocoderFlow read_vocoder_flow(int k, int channels);
  void read_layer(WnLayer& layer, const std::string& key, int flow_channels, int i);

  // Matrices of the file; those that are `narrow` have the precision's type.
  Matrix narrow_matrix(const std::string& name, int rows, int columns, const std::vector<int>* order = nullptr);
  Matrix exact_matrix(const std::string& name, int rows, int columns, const std::vector<int>* order);
  Matrix fp32_matrix(const std::string& name, int rows, int columns, const std::vector<int>* order = nullptr);
  Matrix filled_matrix(const std::string& name, int rows, int taps, int columns, int width);
  List<Matrix> narrow_parts(const std::string& name, int rows, int parts, int columns, int width);

  FlowtronSizes flowtron_;
  WaveglowSizes waveglow_;
  bool has_waveglow_ = false;
  int sample_rate_ = 0, hop_ = 0;
  std::string precision_;
  Numbers numbers_ = Numbers::fp32;      // of the precision
  std::unique_ptr<TensorFile> tensors_;  // while it is read
  std::unique_ptr<EncoderWeights> encoder_;
  List<std::unique_ptr<FlowWeights>> flows_;
  std::unique_ptr<VocoderWeights> vocoder_;
};

}  // namespace fte
