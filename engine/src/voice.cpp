#include "voice.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include <vector>

#include "fault.h"

namespace fte {
namespace {

constexpr std::uint64_t kMostManifest = 16 << 20;  // bytes
constexpr int kMostSize = 1 << 16;                 // channels, hidden units
constexpr int kMostRows = 1 << 24;                 // of a matrix
constexpr int kMostNames = 1 << 20;                // symbols, speakers
constexpr int kMostParts = 64;                     // flows, layers
constexpr int kMostReach = 1 << 16;                // groups that a layer sees on each side
constexpr int kMostGroup = 64;                     // samples

using Shape = std::vector<std::int64_t>;

std::size_t at(int i) { return static_cast<std::size_t>(i); }

int size_at(const Json& sizes, const char* name, int most = kMostSize) {
  return static_cast<int>(sizes.at(name).whole(1, most));
}

bool is_plain_name(const std::string& name) {
  if (name.empty() || name.size() > 128 || name[0] == '.') return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
           c == '-';
  });
}

// A precision of the manifest is a form of numbers, which says of what type the file's narrow tensors are.
Numbers numbers_of(const std::string& precision) {
  if (precision == "fp32") return Numbers::fp32;
  if (precision == "fp16") return Numbers::fp16;
  if (precision == "bf16") return Numbers::bf16;
  if (precision == "int8") return Numbers::int8;
  throw bad_bundle("the engine has no precision " + shown(precision) + ": it has int8, fp32, fp16 and bf16");
}

const char* type_of(Numbers numbers) {
  return numbers == Numbers::fp32 ? "F32" : numbers == Numbers::fp16 ? "F16" : numbers == Numbers::bf16 ? "BF16" : "I8";
}

// Unit by unit: row 4 u + g is gate g (i, f, g, o, as torch has them) of unit u.
std::vector<int> unit_order(int hidden) {
  std::vector<int> order;
  for (int u = 0; u < hidden; ++u) {
    for (int gate = 0; gate < 4; ++gate) order.push_back(gate * hidden + u);
  }
  return order;
}

Buffer<float> ordered(Buffer<float> values, const std::vector<int>& order) {
  Buffer<float> found(at(round_up(static_cast<int>(order.size()), kTile)));
  for (std::size_t i = 0; i < order.size(); ++i) found[i] = values[at(order[i])];
  return found;
}

// fp16 or bf16 numbers as fp32.
Buffer<std::uint8_t> widened(const Buffer<std::uint8_t>& halves, Numbers numbers) {
  Buffer<std::uint8_t> found(2 * halves.size());
  for (std::size_t i = 0; i < halves.size(); i += 2) {
    std::uint16_t half = 0;
    std::memcpy(&half, halves.data() + i, sizeof half);
    const float value = float_of(numbers, half);
    std::memcpy(found.data() + 2 * i, &value, sizeof value);
  }
  return found;
}

// Weights in two int8 digits, 128 * high + low, so that nothing of them is lost that matters: (2 rows, columns).
Matrix in_digits(const Buffer<float>& weights, int rows, int columns, int width, Buffer<float>* scales) {
  constexpr float kLevels = 127.0F * 128.0F;
  Buffer<std::int8_t> digits(2 * at(rows) * at(width));
  std::vector<float> ones(2 * at(rows), 1.0F);
  *scales = Buffer<float>(at(rows));
  for (int row = 0; row < rows; ++row) {
    const float* from = weights.data() + at(row) * at(columns);
    float most = 0.0F;
    for (int k = 0; k < columns; ++k) most = std::fmax(most, std::fabs(from[k]));
    const float scale = most > 0.0F && std::isfinite(most) ? most / kLevels : 1.0F;
    (*scales)[at(row)] = scale / kGateLevels;
    for (int k = 0; k < columns; ++k) {
      const float level = std::nearbyint(std::fmin(std::fmax(from[k] / scale, -kLevels), kLevels));
      const float high = std::nearbyint(level / 128.0F);
      digits[at(row) * at(width) + at(k)] = static_cast<std::int8_t>(high);
      digits[at(rows + row) * at(width) + at(k)] = static_cast<std::int8_t>(level - 128.0F * high);
    }
  }
  return pack(Numbers::int8, digits.data(), 2 * rows, width, ones.data());
}

}  // namespace

Voice::Voice(const std::string& folder, const std::string& precision, bool check) {
  if (folder.empty()) throw bad_bundle("the folder's name is empty: give that of an exported voice");
  const File file(folder + "/manifest.json");
  if (file.size() > kMostManifest) throw bad_bundle(file.path() + " is larger than any manifest");
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, text.data(), text.size());
  const Json manifest = Json::parse(text, file.path());
  read_manifest(manifest);
  choose(manifest, folder, precision, check);
  read_weights();
}

void Voice::read_manifest(const Json& manifest) {
  if (manifest.at("format").text() != "fte-voice") throw bad_bundle("the manifest is not that of a voice bundle");
  manifest.at("version").whole(1, 1);
  const Json& f = manifest.at("flowtron");
  flowtron_.speakers = size_at(f, "n_speakers", kMostNames);
  flowtron_.speaker_channels = size_at(f, "n_speaker_dim");
  flowtron_.symbols = size_at(f, "n_text", kMostNames);
  flowtron_.text_channels = size_at(f, "n_text_dim");
  flowtron_.flows = size_at(f, "n_flows", kMostParts);
  flowtron_.mels = size_at(f, "n_mels");
  flowtron_.attention = size_at(f, "n_attention");
  flowtron_.hidden = size_at(f, "n_hidden");
  flowtron_.layers = size_at(f, "n_lstm_layers", kMostParts);
  flowtron_.gate = f.at("has_gate").boolean();
  flowtron_.cumulative = f.at("cumulative_attention").boolean();
  flowtron_.dummy_speaker = f.at("dummy_speaker").boolean();
  flows_ = List<std::unique_ptr<FlowWeights>>(flowtron_.flows);
  sample_rate_ = size_at(manifest.at("audio"), "sample_rate", 192000);
  hop_ = size_at(manifest.at("audio"), "hop");

  has_waveglow_ = !manifest.at("waveglow").is_null();
  if (!has_waveglow_) return;
  const Json& w = manifest.at("waveglow");
  waveglow_.mels = size_at(w, "n_mels");
  waveglow_.flows = size_at(w, "n_flows", kMostParts);
  waveglow_.group = size_at(w, "n_group", kMostGroup);
  waveglow_.early_every = size_at(w, "n_early_every");
  waveglow_.early_size = size_at(w, "n_early_size");
  waveglow_.layers = size_at(w, "n_layers", kMostParts);
  waveglow_.channels = size_at(w, "n_channels");
  waveglow_.taps = size_at(w, "kernel_size");
  waveglow_.upsample_kernel = size_at(w, "upsample_kernel");
  waveglow_.stride = size_at(w, "upsample_stride");
  const WaveglowSizes& s = waveglow_;
  if (s.mels != flowtron_.mels) throw bad_bundle("waveglow.n_mels and flowtron.n_mels differ");
  if (s.stride != hop_) throw bad_bundle("waveglow.upsample_stride and audio.hop differ");
  if (s.mels * s.group > kMostSize || s.mels > kMostRows / s.stride || s.channels > kMostRows / s.taps) {
    throw bad_bundle("waveglow has layers that are larger than the engine can take");
  }
  if (s.taps % 2 == 0) throw bad_bundle("waveglow.kernel_size is even");
  if (s.layers > 20 || (std::int64_t{s.taps / 2} << (s.layers - 1)) > kMostReach) {
    throw bad_bundle("waveglow.n_layers is more than the engine can take");
  }
  if (s.stride % s.group || s.upsample_kernel % s.stride || s.stride % kTile) {
    throw bad_bundle("waveglow.upsample_stride is " + std::to_string(s.stride) +
                     ", which does not go with the group, the kernel or tiles of 16");
  }
  const std::int64_t entered = std::int64_t{(s.flows - 1) / s.early_every} * s.early_size;
  if (s.group % 2 || s.early_size % 2 || s.group - entered < 2) {
    throw bad_bundle("waveglow.n_group leaves no pairs of channels");
  }
}

void Voice::choose(const Json& manifest, const std::string& folder, const std::string& precision, bool check) {
  const Json* engine = manifest.find("engine");
  if (!engine || engine->object().empty()) {
    throw bad_bundle(folder + " has no weights for the native engine: export the voice again");
  }
  const auto& files = engine->object();
  const auto found = !precision.empty()    ? files.find(precision)
                     : files.count("int8") ? files.find("int8")
                                           : files.begin();
  if (found == files.end()) throw bad_bundle(folder + " has no weights for the native engine in " + shown(precision));
  precision_ = found->first;
  numbers_ = numbers_of(precision_);
  const std::string& name = found->second.text();
  if (!is_plain_name(name)) throw bad_bundle("the manifest's engine." + precision_ + " is not a plain file name");
  tensors_ = std::make_unique<TensorFile>(folder + "/" + name);
  if (check && sha256_of(tensors_->file()) != manifest.at("files").at(name).at("sha256").text()) {
    throw bad_bundle(folder + "/" + name + " is not the file that was exported (its SHA-256 differs)");
  }
}

// Of the precision; `name`.scale has the scales of int8 rows.
Matrix Voice::narrow_matrix(const std::string& name, int rows, int columns, const std::vector<int>* order) {
  const Buffer<std::uint8_t> bytes = tensors_->bytes(name, type_of(numbers_), {rows, columns});
  Buffer<float> scales;
  if (numbers_ == Numbers::int8) scales = tensors_->scales(name + ".scale", rows);
  return pack(numbers_, bytes.data(), rows, columns, scales.data(), order);
}

// fp32, but that it may be fp16 beside int8.
Matrix Voice::exact_matrix(const std::string& name, int rows, int columns, const std::vector<int>* order) {
  const bool half = numbers_ == Numbers::int8 && tensors_->type_of(name, "F16") == "F16";
  const Numbers numbers = half ? Numbers::fp16 : Numbers::fp32;
  return pack(numbers, tensors_->bytes(name, type_of(numbers), {rows, columns}).data(), rows, columns, nullptr, order);
}

Matrix Voice::fp32_matrix(const std::string& name, int rows, int columns, const std::vector<int>* order) {
  return pack(Numbers::fp32, tensors_->bytes(name, "F32", {rows, columns}).data(), rows, columns, nullptr, order);
}

// Rows of `taps` times `columns`, each of which is filled up with zeros to `width`.
Matrix Voice::filled_matrix(const std::string& name, int rows, int taps, int columns, int width) {
  const Buffer<float> values = tensors_->floats(name, {rows, std::int64_t{taps} * columns});
  Buffer<float> filled(at(rows) * at(taps) * at(width));
  for (std::size_t i = 0; i < at(rows) * at(taps); ++i) {
    std::copy_n(values.data() + i * at(columns), columns, filled.data() + i * at(width));
  }
  return pack(Numbers::fp32, filled.data(), rows, taps * width);
}

// A tensor (rows, parts * columns) of the precision, cut into `parts` whose columns are filled up to `width`: int8
// where it is, otherwise fp32.
List<Matrix> Voice::narrow_parts(const std::string& name, int rows, int parts, int columns, int width) {
  const Numbers numbers = numbers_ == Numbers::int8 ? Numbers::int8 : Numbers::fp32;
  const std::size_t size = size_of(numbers);
  Buffer<std::uint8_t> bytes = tensors_->bytes(name, type_of(numbers_), {rows, std::int64_t{parts} * columns});
  Buffer<float> scales;
  if (numbers_ == Numbers::int8) scales = tensors_->scales(name + ".scale", rows);
  if (size_of(numbers_) == 2) bytes = widened(bytes, numbers_);
  List<Matrix> found(parts);
  for (int part = 0; part < parts; ++part) {
    Buffer<std::uint8_t> cut(at(rows) * at(width) * size);
    for (int row = 0; row < rows; ++row) {
      std::memcpy(cut.data() + at(row) * at(width) * size,
                  bytes.data() + (at(row) * at(parts) + at(part)) * at(columns) * size, at(columns) * size);
    }
    found[part] = pack(numbers, cut.data(), rows, width, scales.data());
  }
  return found;
}

const VocoderWeights& Voice::vocoder() const {
  if (!vocoder_) throw bad_bundle("the voice has no vocoder: export it with a WaveGlow");
  return *vocoder_;
}

void Voice::read_weights() {
  encoder_ = read_encoder();
  for (int k = 0; k < flowtron_.flows; ++k) flows_[k] = read_flow(k);
  if (has_waveglow_) vocoder_ = read_vocoder();
  tensors_->check_all_read();
  tensors_.reset();
}

std::unique_ptr<EncoderWeights> Voice::read_encoder() {
  const FlowtronSizes& n = flowtron_;
  TensorFile& file = *tensors_;
  auto e = std::make_unique<EncoderWeights>();
  if (n.text_channels % 2) throw bad_bundle("flowtron.n_text_dim is odd");
  e->symbols = n.symbols;
  e->speakers = n.speakers;
  e->channels = n.text_channels;
  e->hidden = n.text_channels / 2;
  e->speaker_channels = n.speaker_channels;
  e->one_speaker = n.dummy_speaker;
  e->embedding = file.floats("encoder.embedding", {n.symbols, n.text_channels});
  e->speaker_embedding = file.floats("encoder.speaker_embedding", {n.speakers, n.speaker_channels});
  constexpr int kConvolutions = 3, kTaps = 5;  // of every public model
  e->convolutions = List<EncoderConvolution>(kConvolutions);
  const int width = round_up(n.text_channels, kTile);
  for (int i = 0; i < kConvolutions; ++i) {
    const std::string key = "encoder.convolutions." + std::to_string(i);
    EncoderConvolution& c = e->convolutions[i];
    c.taps = kTaps;
    c.weight = filled_matrix(key + ".weight", n.text_channels, kTaps, n.text_channels, width);
    c.bias = file.floats(key + ".bias", {n.text_channels});
    c.gain = file.floats(key + ".gain", {n.text_channels});
    c.shift = file.floats(key + ".shift", {n.text_channels});
  }
  const std::vector<int> order = unit_order(e->hidden);
  for (int d = 0; d < 2; ++d) {
    const std::string key = d ? "encoder.lstm.backward" : "encoder.lstm.forward";
    e->directions[d].input = fp32_matrix(key + ".input", 4 * e->hidden, n.text_channels, &order);
    e->directions[d].recurrent = fp32_matrix(key + ".recurrent", 4 * e->hidden, e->hidden, &order);
    e->directions[d].bias = ordered(file.floats(key + ".bias", {4 * e->hidden}), order);
  }
  return e;
}

std::unique_ptr<FlowWeights> Voice::read_flow(int k) {
  const FlowtronSizes& n = flowtron_;
  TensorFile& file = *tensors_;
  const std::string key = "flows." + std::to_string(k);
  auto f = std::make_unique<FlowWeights>();
  FlowSizes& s = f->sizes;
  s.mels = n.mels;
  s.attention = n.attention;
  s.hidden = n.hidden;
  s.layers = n.layers;
  s.memory = n.text_channels + n.speaker_channels;
  s.gate = n.gate && k == n.flows - 1;
  const int h = n.hidden;
  const std::vector<int> order = unit_order(h);
  f->mel = exact_matrix(key + ".attention_lstm.mel", 4 * h, n.mels, &order);
  f->recurrent = List<Matrix>(1 + n.layers);
  f->bias = List<Buffer<float>>(1 + n.layers);
  f->late = List<Matrix>(n.layers);
  f->recurrent[0] = narrow_matrix(key + ".attention_lstm.recurrent", 4 * h, h, &order);
  f->bias[0] = ordered(file.floats(key + ".attention_lstm.bias", {4 * h}), order);
  f->early = narrow_matrix(key + ".lstm.0.hidden", 4 * h, h, &order);
  for (int layer = 0; layer < n.layers; ++layer) {
    const std::string lstm = key + ".lstm." + std::to_string(layer);
    f->late[layer] = layer == 0 ? narrow_matrix(lstm + ".context", 4 * h, n.attention, &order)
                                : narrow_matrix(lstm + ".input", 4 * h, h, &order);
    f->recurrent[1 + layer] = narrow_matrix(lstm + ".recurrent", 4 * h, h, &order);
    f->bias[1 + layer] = ordered(file.floats(lstm + ".bias", {4 * h}), order);
  }
  f->query = narrow_matrix(key + ".attention.query", n.attention, h);
  f->energy = file.floats(key + ".attention.energy", {n.attention}, kTile);
  f->key = fp32_matrix(key + ".attention.key", n.attention, s.memory);
  f->value = fp32_matrix(key + ".attention.value", n.attention, s.memory);
  for (int i = 0; i < 2; ++i) {
    const std::string dense = key + ".dense." + std::to_string(i);
    f->dense[i] = narrow_matrix(dense + ".weight", h, h);
    f->dense_bias[i] = file.floats(dense + ".bias", {h}, kTile);
  }
  std::vector<int> channels;
  for (int m = 0; m < n.mels; ++m) {
    channels.push_back(m);
    channels.push_back(n.mels + m);
  }
  f->affine = exact_matrix(key + ".affine.weight", 2 * n.mels, h, &channels);
  f->affine_bias = ordered(file.floats(key + ".affine.bias", {2 * n.mels}), channels);
  if (s.gate) f->gate = file.floats(key + ".gate", {h + n.attention + 1});
  if (n.cumulative) {
    constexpr int kFilters = 32, kFilterReach = 2, kMemoryReach = 1;  // of every public model
    s.filters = kFilters;
    s.filter_reach = kFilterReach;
    s.memory_reach = kMemoryReach;
    f->filter_weights = file.floats(key + ".cumulative.hidden.weight", {kFilters, 2, 2 * kFilterReach + 1});
    f->filter_bias = file.floats(key + ".cumulative.hidden.bias", {kFilters});
    f->memory_weights = file.floats(key + ".cumulative.out.weight", {2 * kMemoryReach + 1, kFilters, s.memory}, kTile);
    f->memory_bias = file.floats(key + ".cumulative.out.bias", {s.memory}, kTile);
  }
  return f;
}

std::unique_ptr<VocoderWeights> Voice::read_vocoder() {
  const WaveglowSizes& n = waveglow_;
  TensorFile& file = *tensors_;
  auto v = std::make_unique<VocoderWeights>();
  v->mels = n.mels;
  v->group = n.group;
  v->phases = n.stride / n.group;
  v->taps = n.upsample_kernel / n.stride;
  v->first_channels = n.group - (n.flows - 1) / n.early_every * n.early_size;
  v->quantized = numbers_ == Numbers::int8;
  v->centre = file.floats("vocoder.centre", {1})[0];
  const int rows = n.stride * n.mels, columns = v->taps * n.mels;
  v->upsample = fp32_matrix("vocoder.upsample.weight", rows, columns);
  v->upsample_bias = file.floats("vocoder.upsample.bias", {rows});
  v->flows = List<VocoderFlow>(n.flows);
  int channels = n.group;
  for (int k = 0; k < n.flows; ++k) {
    if (k > 0 && k % n.early_every == 0) channels -= n.early_size;
    v->flows[k] = read_vocoder_flow(k, channels);
  }
  return v;
}

VocoderFlow Voice::read_vocoder_flow(int k, int channels) {
  const WaveglowSizes& n = waveglow_;
  TensorFile& file = *tensors_;
  const std::string key = "vocoder.flows." + std::to_string(k);
  VocoderFlow flow;
  flow.channels = channels;
  flow.start = fp32_matrix(key + ".start.weight", n.channels, channels / 2);
  flow.start_bias = file.floats(key + ".start.bias", {n.channels}, kTile);
  flow.end_bias = file.floats(key + ".end.bias", {channels});
  flow.mixing = file.floats(key + ".mixing", {channels, channels});
  flow.layers = List<WnLayer>(n.layers);
  for (int i = 0; i < n.layers; ++i) read_layer(flow.layers[i], key + ".layers." + std::to_string(i), channels, i);
  return flow;
}

void Voice::read_layer(WnLayer& l, const std::string& key, int flow_channels, int i) {
  const WaveglowSizes& n = waveglow_;
  TensorFile& file = *tensors_;
  const int c = n.channels, width = round_up(c, kTile), conditions = n.mels * n.group;
  l.quantized = numbers_ == Numbers::int8;
  l.channels = c;
  l.width = width;
  l.condition = conditions;
  l.taps = n.taps;
  l.dilation = 1 << i;
  l.phases = n.stride / n.group;
  l.last = i == n.layers - 1;
  l.tanh = narrow_parts(key + ".tanh", c, n.taps, c, width);
  l.sigmoid = narrow_parts(key + ".sigmoid", c, n.taps, c, width);
  l.condition_tanh = std::move(narrow_parts(key + ".condition_tanh", c, 1, conditions, conditions)[0]);
  l.condition_sigmoid = std::move(narrow_parts(key + ".condition_sigmoid", c, 1, conditions, conditions)[0]);
  const Buffer<float> bias = file.floats(key + ".bias", {l.phases, 2, c});
  l.bias = Buffer<float>(at(l.phases) * 2 * at(width));
  for (int row = 0; row < 2 * l.phases; ++row) {
    std::copy_n(bias.data() + at(row) * at(c), c, l.bias.data() + at(row) * at(width));
  }
  if (!l.last) {
    l.residual = std::move(narrow_parts(key + ".residual.weight", c, 1, c, width)[0]);
    l.residual_bias = file.floats(key + ".residual.bias", {c}, kTile);
  }
  if (l.quantized) {
    l.end = in_digits(file.floats(key + ".end", {flow_channels, c}), flow_channels, c, width, &l.end_scales);
  } else {
    l.end = filled_matrix(key + ".end", flow_channels, 1, c, width);
  }
}

}  // namespace fte
