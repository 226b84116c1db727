// The C API: checks what comes in, and lets no exception out.
#include "fte/fte.h"

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fault.h"
#include "stream.h"
#include "team.h"

struct fte_voice {
  std::shared_ptr<fte::Speaker> speaker;
};

struct fte_stream {
  fte::Stream stream;
};

namespace {

std::string& last_error() {
  thread_local std::string text;
  return text;
}

fte_status status_of(fte::Kind kind) {
  switch (kind) {
    case fte::Kind::argument:
      return FTE_INVALID_ARGUMENT;
    case fte::Kind::bundle:
      return FTE_BAD_BUNDLE;
    case fte::Kind::cancelled:
      return FTE_CANCELLED;
    case fte::Kind::memory:
      return FTE_OUT_OF_MEMORY;
    case fte::Kind::internal:
      break;
  }
  return FTE_INTERNAL;
}

fte_status failed(fte_status status, const char* what) noexcept {
  try {
    last_error() = fte::shown(what, 1000);
  } catch (...) {  // no memory for the text: the status has to do
  }
  return status;
}

// Run `work`, which gives a status; what it throws becomes one.
template <class F>
fte_status guarded(F&& work) noexcept {
  try {
    return work();
  } catch (const fte::Fault& fault) {
    return failed(status_of(fault.kind()), fault.what());
  } catch (const std::bad_alloc&) {
    return failed(FTE_OUT_OF_MEMORY, "there is not enough memory");
  } catch (const std::exception& error) {
    return failed(FTE_INTERNAL, error.what());
  } catch (...) {
    return failed(FTE_INTERNAL, "something unknown was thrown");
  }
}

void need(bool given, const char* otherwise) {
  if (!given) throw fte::bad_argument(otherwise);
}

// The caller's options, or those by default. When a version appends fields, the sizes of those before become known
// here, and only so many bytes may be read.
template <class Options>
Options complete(const Options* given, void (*init)(Options*)) {
  Options found;
  init(&found);
  if (!given) return found;
  need(given->struct_size == sizeof found,
       "options has a struct_size that this library does not know: set it with the options' init function");
  return *given;
}

std::vector<float> rows_of(const float* values, int32_t rows, int mels, const char* otherwise) {
  if (!values) return {};
  need(rows >= 1 && rows <= fte::kMostFrames, otherwise);
  return {values, values + static_cast<std::size_t>(rows) * static_cast<std::size_t>(mels)};
}

fte::StreamOptions stream_options(const fte_stream_options& o, int mels) {
  fte::StreamOptions found;
  found.speaker = o.speaker;
  found.seed = o.seed;
  found.request = o.request;
  found.sigma = o.sigma;
  found.vocoder_sigma = o.vocoder_sigma;
  found.gate_threshold = o.gate_threshold;
  found.temperature = o.temperature;
  found.stop_with_attention = o.stop_with_attention != 0;
  found.max_frames = o.max_frames;
  found.style = rows_of(o.style, o.style_frames, mels, "style_frames lies between 1 and 10000");
  found.z = rows_of(o.z, o.z_frames, mels, "z_frames lies between 1 and 10000");
  found.first_chunk = o.first_chunk;
  found.chunk = o.chunk;
  found.overlap = o.overlap;
  return found;
}

}  // namespace

const char* fte_last_error(void) {
  try {
    return last_error().c_str();
  } catch (...) {
    return "";
  }
}

const char* fte_version(void) { return FTE_VERSION; }

void fte_voice_options_init(fte_voice_options* options) {
  if (!options) return;
  std::memset(options, 0, sizeof *options);
  options->struct_size = sizeof *options;
  options->check_hash = 1;
}

fte_status fte_voice_open(const char* folder, const fte_voice_options* options, fte_voice** voice) {
  return guarded([&] {
    need(voice != nullptr, "voice is null");
    *voice = nullptr;
    need(folder != nullptr && *folder != '\0', "folder is null or empty: give that of an exported voice");
    const fte_voice_options o = complete(options, fte_voice_options_init);
    need(o.threads >= 0 && o.threads <= fte::kMostThreads, "threads lies between 1 and 256, or is 0");
    const int cores = std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, fte::kMostThreads);
    auto found = std::make_unique<fte_voice>();
    found->speaker = std::make_shared<fte::Speaker>(folder, o.precision ? o.precision : "", o.check_hash != 0,
                                                    o.threads ? o.threads : cores);
    found->speaker->voice.vocoder();  // a voice without one is refused now
    *voice = found.release();
    return FTE_OK;
  });
}

fte_status fte_voice_get_info(const fte_voice* voice, fte_voice_info* info) {
  return guarded([&] {
    need(voice != nullptr, "voice is null, or closed");
    need(info != nullptr, "info is null");
    const fte::Voice& v = voice->speaker->voice;
    *info = {v.sample_rate(), v.hop(), v.flowtron().symbols, v.flowtron().speakers, v.flowtron().mels};
    return FTE_OK;
  });
}

fte_status fte_voice_close(fte_voice** voice) {
  return guarded([&] {
    need(voice != nullptr && *voice != nullptr, "voice is null, or closed already");
    delete std::exchange(*voice, nullptr);
    return FTE_OK;
  });
}

void fte_stream_options_init(fte_stream_options* options) {
  if (!options) return;
  const fte::StreamOptions defaults;
  std::memset(options, 0, sizeof *options);
  options->struct_size = sizeof *options;
  options->sigma = defaults.sigma;
  options->vocoder_sigma = defaults.vocoder_sigma;
  options->gate_threshold = defaults.gate_threshold;
  options->temperature = defaults.temperature;
  options->stop_with_attention = 1;
  options->first_chunk = defaults.first_chunk;
  options->chunk = defaults.chunk;
  options->overlap = defaults.overlap;
}

fte_status fte_stream_start(fte_voice* voice, const int64_t* ids, size_t count, const fte_stream_options* options,
                            fte_stream** stream) {
  return guarded([&] {
    need(stream != nullptr, "stream is null");
    *stream = nullptr;
    need(voice != nullptr, "voice is null, or closed");
    need(ids != nullptr, "ids is null");
    need(count >= 1 && count <= fte::kMostSymbols, "count lies between 1 and 1000");
    const fte_stream_options o = complete(options, fte_stream_options_init);
    const int mels = voice->speaker->voice.flowtron().mels;
    *stream = new fte_stream{{voice->speaker, ids, count, stream_options(o, mels)}};
    return FTE_OK;
  });
}

fte_status fte_stream_next(fte_stream* stream, const float** samples, size_t* count) {
  return guarded([&] {
    need(samples != nullptr && count != nullptr, "samples or count is null");
    *samples = nullptr;
    *count = 0;
    need(stream != nullptr, "stream is null, or closed");
    const std::vector<float>& found = stream->stream.next();
    if (found.empty()) return FTE_END;
    *samples = found.data();
    *count = found.size();
    return FTE_OK;
  });
}

fte_status fte_stream_cancel(fte_stream* stream) {
  return guarded([&] {
    need(stream != nullptr, "stream is null, or closed");
    stream->stream.cancel();
    return FTE_OK;
  });
}

fte_status fte_stream_close(fte_stream** stream) {
  return guarded([&] {
    need(stream != nullptr && *stream != nullptr, "stream is null, or closed already");
    delete std::exchange(*stream, nullptr);
    return FTE_OK;
  });
}
