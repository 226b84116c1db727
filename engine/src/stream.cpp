#include "stream.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "fault.h"
#include "noise.h"

namespace fte {
namespace {

constexpr int kBlockFrames = 8;  // decoded at once: between blocks a stream can be cancelled

std::size_t at(int i) { return static_cast<std::size_t>(i); }

bool is_backward(int flow) { return flow % 2 == 1; }

void need(bool fits, const std::string& otherwise) {
  if (!fits) throw bad_argument(otherwise);
}

void need_finite(const std::vector<float>& values, const char* name) {
  const bool finite = std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
  need(finite, std::string(name) + " has values that are not finite");
}

bool within(float value, float least, float most) { return value >= least && value <= most; }

}  // namespace

bool Arrival::step(const float* attention) {
  constexpr int kSettled = 3, kFading = 10;
  const int symbols = static_cast<int>(seen_.size());
  const int last = std::clamp(symbols / 2, 1, 2);  // symbols that are the end: of two or three only the very last
  const int place = static_cast<int>(std::max_element(attention, attention + symbols) - attention);
  if (!seen_[at(place)]) {
    seen_[at(place)] = true;
    ++count_;
  }
  const bool edge = backward_ ? place < last : place >= symbols - last;
  at_edge_ = 2 * count_ >= symbols && edge ? at_edge_ + 1 : 0;
  if (since_ > 0 || at_edge_ >= kSettled) ++since_;
  return since_ > kFading;
}

Stream::Stream(std::shared_ptr<Speaker> speaker, const std::int64_t* ids, std::size_t count, StreamOptions options)
    : speaker_(std::move(speaker)), options_(std::move(options)), ids_(ids, ids + count) {
  const FlowtronSizes& n = speaker_->voice.flowtron();
  const StreamOptions& o = options_;
  need(count >= 1 && count <= at(kMostSymbols), std::to_string(count) + " ids were given: give 1 to 1000");
  for (std::int64_t id : ids_) {
    need(id >= 0 && id < n.symbols,
         "an id is " + std::to_string(id) + ": this voice has 0 to " + std::to_string(n.symbols - 1));
  }
  need(o.speaker >= 0 && o.speaker < n.speakers,
       "speaker is " + std::to_string(o.speaker) + ": this voice has 0 to " + std::to_string(n.speakers - 1));
  need(within(o.sigma, 0, 10) && within(o.vocoder_sigma, 0, 10), "sigma and vocoder_sigma lie between 0 and 10");
  need(o.gate_threshold >= 0, "gate_threshold is at least 0");
  need(o.temperature > 0 && std::isfinite(o.temperature), "temperature is a number above 0");
  need(o.max_frames >= 0 && o.max_frames <= kMostFrames, "max_frames lies between 1 and 10000, or is 0");
  need(o.seed >> 63 == 0 && o.request >> 63 == 0, "seed and request are below 2^63");
  need(o.chunk >= 1 && o.chunk <= kMostFrames && o.first_chunk >= 1 && o.first_chunk <= kMostFrames,
       "chunk and first_chunk lie between 1 and 10000 frames");
  need(o.overlap >= 0 && o.overlap <= kMostFrames, "overlap lies between 0 and 10000 frames");
  need(o.z.size() <= at(kMostFrames) * at(n.mels) && o.style.size() <= at(kMostFrames) * at(n.mels),
       "z and style have at most 10000 frames");
  need_finite(o.z, "z");
  need_finite(o.style, "style");
  size_ = std::min(o.first_chunk, o.chunk);
}

void Stream::check_cancelled() const {
  if (cancelled_) throw Fault(Kind::cancelled, "the stream was cancelled");
}

const std::vector<float>& Stream::next() {
  samples_.clear();
  check_cancelled();
  if (!begun_) begin();
  while (decoded_ < frames_ && decoded_ < position_ + size_ + options_.overlap) {
    check_cancelled();
    if (!decode_block()) break;
  }
  if (position_ < decoded_) {
    check_cancelled();
    const int stop = std::min(position_ + size_, decoded_);
    vocode_chunk(position_, stop);
    position_ = stop;
    size_ = std::min(2 * size_, options_.chunk);
  }
  return samples_;
}

// Everything before the first sound: the encoder, z, and every flow but flow 0.
void Stream::begin() {
  Voice& voice = speaker_->voice;
  const FlowtronSizes& n = voice.flowtron();
  const int symbols = static_cast<int>(ids_.size());
  memory_.resize(at(symbols) * at(voice.encoder().memory()));
  encode(voice.encoder(), speaker_->kernels, speaker_->team, ids_.data(), symbols, options_.speaker, memory_.data());

  const int most = options_.max_frames ? options_.max_frames : std::min(kMostFrames, 100 + 12 * symbols);
  frames_ = options_.z.empty() ? most : static_cast<int>(options_.z.size()) / n.mels;
  residual_ = options_.z;
  if (residual_.empty()) {
    residual_.resize(at(frames_) * at(n.mels));
    const int rows = static_cast<int>(options_.style.size()) / n.mels;
    const bool from_the_end = is_backward(n.flows - 1);  // noise goes to frames in the order in which they are computed
    for (int t = 0; t < frames_; ++t) {
      float* row = residual_.data() + at(t) * at(n.mels);
      normal_row(options_.seed, options_.request, NoiseStream::prior, at(from_the_end ? frames_ - 1 - t : t), n.mels,
                 row);
      const float* mean = rows ? options_.style.data() + at(std::min(t, rows - 1)) * at(n.mels) : nullptr;
      for (int m = 0; m < n.mels; ++m) row[m] = options_.sigma * row[m] + (mean ? mean[m] : 0.0F);
    }
  }
  for (int k = n.flows - 1; k > 0; --k) run_early_flow(k);
  start_flow(0, frames_);
  begun_ = true;
}

void Stream::start_flow(int k, int frames) {
  const FlowWeights& f = speaker_->voice.flow(k);
  const int symbols = static_cast<int>(ids_.size());
  keys_.resize(at(symbols) * at(f.sizes.attention));
  values_.resize(keys_.size());
  project(f.key, speaker_->kernels, speaker_->team, memory_.data(), symbols, keys_.data());
  project(f.value, speaker_->kernels, speaker_->team, memory_.data(), symbols, values_.data());
  FlowInputs inputs;
  inputs.batch = 1;
  inputs.symbols = symbols;
  inputs.keys = keys_.data();
  inputs.values = values_.data();
  inputs.memory = memory_.data();
  inputs.texts = &symbols;
  inputs.frames = &frames;
  inputs.temperatures = &options_.temperature;
  inputs.thresholds = &options_.gate_threshold;
  run_ = std::make_unique<FlowRun>(f, speaker_->kernels, speaker_->team, inputs);
}

// Frames `first` to `first + count` in the order of the flow that runs, whose z stand at that place of residual_.
std::vector<float> Stream::run_block(int count, int first, std::vector<float>* attention, std::vector<float>* gate) {
  const FlowtronSizes& n = speaker_->voice.flowtron();
  std::vector<float> mel(at(count) * at(n.mels));
  attention->assign(at(count) * ids_.size(), 0.0F);
  gate->assign(at(count), 0.0F);
  FlowFrames frames;
  frames.count = count;
  frames.z = residual_.data() + at(first) * at(n.mels);
  frames.mel = mel.data();
  frames.attention = attention->data();
  frames.gate = gate->data();
  run_->run(frames);
  return mel;
}

namespace {

void reverse_rows(std::vector<float>& rows, int width) {
  const std::size_t w = at(width), count = rows.size() / w;
  for (std::size_t i = 0; i < count / 2; ++i) {
    std::swap_ranges(rows.begin() + static_cast<std::ptrdiff_t>(i * w),
                     rows.begin() + static_cast<std::ptrdiff_t>((i + 1) * w),
                     rows.begin() + static_cast<std::ptrdiff_t>((count - 1 - i) * w));
  }
}

}  // namespace

// A flow before the last: residual_ becomes what it makes of it. The first of them decides where the utterance ends.
void Stream::run_early_flow(int k) {
  const FlowtronSizes& n = speaker_->voice.flowtron();
  const bool ends = k == n.flows - 1;
  if (is_backward(k)) reverse_rows(residual_, n.mels);
  start_flow(k, frames_);
  Arrival arrival(static_cast<int>(ids_.size()), is_backward(k));
  std::vector<float> mel, attention, gate;
  int done = 0;
  for (bool over = false; !over && done < frames_;) {
    check_cancelled();
    const int count = std::min(kBlockFrames, frames_ - done);
    const std::vector<float> block = run_block(count, done, &attention, &gate);
    int used = 0;
    while (used < count && !over) {
      const bool arrived =
          ends && options_.stop_with_attention && arrival.step(attention.data() + at(used) * ids_.size());
      over = arrived || (ends && n.gate && gate[at(used)] > options_.gate_threshold);
      ++used;
    }
    mel.insert(mel.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(at(used) * at(n.mels)));
    done += used;
  }
  frames_ = done;
  residual_ = std::move(mel);
  if (is_backward(k)) reverse_rows(residual_, n.mels);
}

// More frames of flow 0; whether there were any. Where it is the only flow, it also decides where the utterance ends.
bool Stream::decode_block() {
  const FlowtronSizes& n = speaker_->voice.flowtron();
  std::vector<float> attention, gate;
  const int count = std::min(kBlockFrames, frames_ - decoded_);
  const std::vector<float> block = run_block(count, decoded_, &attention, &gate);
  int used = count;
  if (n.flows == 1) {
    if (!arrival_) arrival_ = std::make_unique<Arrival>(static_cast<int>(ids_.size()), false);
    for (int i = 0; i < used; ++i) {
      const bool arrived = options_.stop_with_attention && arrival_->step(attention.data() + at(i) * ids_.size());
      if (arrived || (n.gate && gate[at(i)] > options_.gate_threshold)) {
        used = i + 1;
        frames_ = decoded_ + used;
      }
    }
  }
  mel_.insert(mel_.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(at(used) * at(n.mels)));
  decoded_ += used;
  return used > 0;
}

// The samples of frames start to stop, computed with context on both sides.
void Stream::vocode_chunk(int start, int stop) {
  const VocoderWeights& v = speaker_->voice.vocoder();
  const int left = std::max(0, start - options_.overlap - (v.taps - 1)),
            right = std::min(decoded_, stop + options_.overlap);
  std::vector<float> noise(at(right - left) * at(v.hop())), audio(noise.size());
  for (int t = left; t < right; ++t) {
    float* row = noise.data() + at(t - left) * at(v.hop());
    normal_row(options_.seed, options_.request, NoiseStream::vocoder, at(t), v.hop(), row);
    for (int i = 0; i < v.hop(); ++i) row[i] *= options_.vocoder_sigma;
  }
  vocode(v, speaker_->kernels, speaker_->team, mel_.data() + at(left) * at(v.mels), right - left, noise.data(),
         audio.data());
  samples_.assign(audio.begin() + static_cast<std::ptrdiff_t>(at(start - left) * at(v.hop())),
                  audio.begin() + static_cast<std::ptrdiff_t>(at(stop - left) * at(v.hop())));
}

}  // namespace fte
