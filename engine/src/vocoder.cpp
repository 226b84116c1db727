#include "vocoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

namespace fte {
namespace {

constexpr int kBlock = 12;  // groups: what a kernel takes at once

std::size_t at(int i) { return static_cast<std::size_t>(i); }

class Vocoding {
 public:
  Vocoding(const VocoderWeights& v, const Kernels& kernels, Team& team, const float* mel, int frames,
           const float* noise, float* audio)
      : v_(v),
        kernels_(kernels),
        team_(team),
        frames_(frames),
        groups_(frames * v.phases),
        noise_(noise),
        audio_(audio),
        scratch_(team.workers()) {
    const WnLayer& layer = v.flows[0].layers[0];
    width_ = layer.width;
    for (const VocoderFlow& flow : v.flows) {
      for (const WnLayer& each : flow.layers) reach_ = std::max(reach_, each.taps / 2 * each.dilation);
    }
    condition_width_ = v.conditions();  // of floats
    byte_width_ = round_up(v.conditions(), kTile);
    const std::size_t rows = at(groups_ + 2 * reach_), x = rows * at(width_);
    windows_ = Buffer<float>(at(frames) * at(v.taps * v.mels));
    condition_ = Buffer<float>(at(groups_) * at(condition_width_) + kTile);
    x_[0] = Buffer<float>(x);
    out_ = Buffer<float>(at(groups_) * at(v.group));
    if (v.quantized) {
      condition_bytes_ = Buffer<std::uint8_t>(at(groups_) * at(byte_width_));
      condition_scales_ = Buffer<float>(at(groups_));
      for (int i = 0; i < 2; ++i) {
        bytes_[i] = Buffer<std::uint8_t>(x);
        std::fill(bytes_[i].begin(), bytes_[i].end(), std::uint8_t{128});
        scales_[i] = Buffer<float>(rows);
      }
    } else {
      x_[1] = Buffer<float>(x);
    }
    for (WnScratch& s : scratch_) {
      s.gated = Buffer<float>(at(kGroupTile * width_));
      s.bytes = Buffer<std::uint8_t>(at(kGroupTile * width_));
    }
    cut_windows(mel);
    place_noise();
  }

  void run() {
    // One turn of the team each, so that whoever else wants it, such as a decoder, waits for a flow and not for all.
    team_.run([this](int worker, Barrier& barrier) { condition(worker, barrier); });
    for (int k = v_.flows.size() - 1; k >= 0; --k) {
      team_.run([this, k](int worker, Barrier& barrier) { flow(k, worker, barrier); });
    }
  }

 private:
  // Of each frame, itself and those before it, latest first. Frames before the first are zeros like the padding of a
  // convolution, and so is what they are after the centre is taken from them: its negative.
  void cut_windows(const float* mel) {
    float* to = windows_.data();
    for (int t = 0; t < frames_; ++t) {
      for (int tap = 0; tap < v_.taps; ++tap) {
        for (int m = 0; m < v_.mels; ++m) *to++ = (t < tap ? 0.0F : mel[at(t - tap) * at(v_.mels) + at(m)]) - v_.centre;
      }
    }
  }

  // Channels that enter later stand before those that are there: every flow has the last ones of a group.
  void place_noise() {
    const int entries = v_.flows.size() ? v_.group - v_.first_channels : 0;
    for (int g = 0; g < groups_; ++g) {
      const float* from = noise_ + at(g) * at(v_.group);
      float* to = audio_ + at(g) * at(v_.group);
      std::copy_n(from, v_.first_channels, to + entries);
      int place = entries, taken = v_.first_channels;
      for (int k = v_.flows.size() - 1; k > 0; --k) {
        const int more = v_.flows[k - 1].channels - v_.flows[k].channels;
        place -= more;
        std::copy_n(from + taken, more, to + place);
        taken += more;
      }
    }
  }

  void condition(int worker, Barrier& barrier) {
    const int workers = team_.workers(), tiles = v_.upsample.tiles();
    const int first_tile = worker ? part_end(tiles, workers, worker - 1, 1) : 0;
    const auto stride = static_cast<std::ptrdiff_t>(v_.upsample.rows);
    fill_with_bias(worker ? part_end(frames_, workers, worker - 1, 1) : 0, part_end(frames_, workers, worker, 1));
    barrier.wait();
    kernels_.multiply(v_.upsample, windows_.data(), v_.upsample.columns, frames_, first_tile,
                      part_end(tiles, workers, worker, 1), condition_.data(), stride, true);
    barrier.wait();
    const int first = first_group(worker), last = first_group(worker + 1);
    if (v_.quantized) {
      kernels_.quantize_rows(condition_.data() + at(first) * at(condition_width_), condition_width_, last - first,
                             v_.conditions(), condition_bytes_.data() + at(first) * at(byte_width_), byte_width_,
                             condition_scales_.data() + first);
    }
  }

  void flow(int k, int worker, Barrier& barrier) {
    const int first = first_group(worker), last = first_group(worker + 1);
    run_wn(v_.flows[k], first, last, worker, barrier);
    undo(v_.flows[k], first, last);
  }

  int first_group(int worker) const { return worker ? part_end(groups_, team_.workers(), worker - 1, kBlock) : 0; }

  void fill_with_bias(int first, int last) {
    for (int t = first; t < last; ++t) {
      std::copy_n(v_.upsample_bias.data(), v_.upsample.rows, condition_.data() + at(t) * at(v_.upsample.rows));
    }
  }

  void run_wn(const VocoderFlow& flow, int first, int last, int worker, Barrier& barrier) {
    const int row = reach_ + first;
    for (int g = first; g < last; ++g) {
      std::copy_n(flow.start_bias.data(), width_, x_[0].data() + at(reach_ + g) * at(width_));
      std::copy_n(flow.end_bias.data(), flow.channels, out_.data() + at(g) * at(v_.group));
    }
    kernels_.multiply(flow.start, audio_ + at(first) * at(v_.group) + at(v_.group - flow.channels), v_.group,
                      last - first, 0, flow.start.tiles(), x_[0].data() + at(row) * at(width_), width_, true);
    if (v_.quantized) {
      kernels_.quantize_rows(x_[0].data() + at(row) * at(width_), width_, last - first, width_,
                             bytes_[0].data() + at(row) * at(width_), width_, scales_[0].data() + row);
    }
    barrier.wait();
    for (int i = 0; i < flow.layers.size(); ++i) {
      kernels_.wn_layer(flow.layers[i], buffers(flow, i), first, last, scratch_[worker]);
      barrier.wait();
    }
  }

  WnBuffers buffers(const VocoderFlow& flow, int layer) {
    const int now = layer % 2, next = 1 - now;
    WnBuffers b;
    b.groups = groups_;
    b.reach = reach_;
    b.out = out_.data();
    b.out_width = flow.channels;
    b.out_stride = v_.group;
    if (v_.quantized) {
      b.x = x_[0].data();
      b.x_bytes = bytes_[now].data();
      b.x_scales = scales_[now].data();
      b.next_bytes = bytes_[next].data();
      b.next_scales = scales_[next].data();
      b.condition_bytes = condition_bytes_.data();
      b.condition_scales = condition_scales_.data();
      b.condition_width = byte_width_;
    } else {
      b.x = x_[now].data();
      b.next_x = x_[next].data();
      b.condition = condition_.data();
      b.condition_width = condition_width_;
    }
    return b;
  }

  // The affine coupling and the 1x1 convolution, both backwards.
  void undo(const VocoderFlow& flow, int first, int last) {
    const int channels = flow.channels, half = channels / 2;
    float before[64];
    for (int g = first; g < last; ++g) {
      float* audio = audio_ + at(g) * at(v_.group) + at(v_.group - channels);
      const float* out = out_.data() + at(g) * at(v_.group);
      for (int i = 0; i < half; ++i) {
        before[i] = audio[i];
        before[half + i] = (audio[half + i] - out[i]) * std::exp(-out[half + i]);
      }
      for (int i = 0; i < channels; ++i) {
        float sum = 0.0F;
        for (int j = 0; j < channels; ++j) sum += flow.mixing[at(i * channels + j)] * before[j];
        audio[i] = sum;
      }
    }
  }

  const VocoderWeights& v_;
  const Kernels& kernels_;
  Team& team_;
  const int frames_, groups_;
  const float* noise_;
  float* audio_;  // (G, group): the channels that are there already stand last
  int width_ = 0, reach_ = 0, condition_width_ = 0, byte_width_ = 0;
  Buffer<float> windows_, condition_, x_[2], out_, condition_scales_, scales_[2];
  Buffer<std::uint8_t> condition_bytes_, bytes_[2];
  List<WnScratch> scratch_;
};

}  // namespace

void vocode(const VocoderWeights& weights, const Kernels& kernels, Team& team, const float* mel, int frames,
            const float* noise, float* audio) {
  Vocoding(weights, kernels, team, mel, frames, noise, audio).run();
}

}  // namespace fte
