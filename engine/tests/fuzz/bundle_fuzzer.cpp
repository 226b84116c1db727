// Opens hostile bundles, and speaks with those that open. An input is the length of the manifest (4 bytes, the lowest
// first), the manifest, and the file of tensors that it may name as "w".
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "../bundle_parts.h"
#include "fte/fte.h"

namespace {

std::string folder() {
  static std::string made;
  if (made.empty()) {
    char name[] = "/dev/shm/fte_fuzz_XXXXXX";
    if (!mkdtemp(name)) std::abort();
    made = name;
    std::atexit([] {
      unlink((made + "/manifest.json").c_str());
      unlink((made + "/w").c_str());
      rmdir(made.c_str());
    });
  }
  return made;
}

void write_file(const std::string& name, const std::uint8_t* data, std::size_t size) {
  std::FILE* file = std::fopen((folder() + name).c_str(), "wb");
  if (!file || std::fwrite(data, 1, size, file) != size || std::fclose(file) != 0) std::abort();
}

}  // namespace

// Whether the bundle in a folder opens. Then it speaks, or says why not in a sentence; what it gives out is finite.
bool open_and_speak(const std::string& folder, bool check_hash) {
  fte_voice_options options;
  fte_voice_options_init(&options);
  options.threads = 1;
  options.check_hash = check_hash;
  fte_voice* voice = nullptr;
  if (fte_voice_open(folder.c_str(), &options, &voice) != FTE_OK) {
    CHECK(!voice && fte_test::is_sentence(fte_last_error()));
    return false;
  }
  fte_stream_options speech;
  fte_stream_options_init(&speech);
  speech.max_frames = 2;
  const std::int64_t ids[] = {0, 0};
  fte_stream* stream = nullptr;
  const float* samples = nullptr;
  std::size_t count = 0;
  if (fte_stream_start(voice, ids, 2, &speech, &stream) == FTE_OK) {
    fte_status status;
    while ((status = fte_stream_next(stream, &samples, &count)) == FTE_OK) {
      CHECK(std::all_of(samples, samples + count, [](float sample) { return std::isfinite(sample); }));
    }
    CHECK(status == FTE_END || fte_test::is_sentence(fte_last_error()));
    fte_stream_close(&stream);
  }
  fte_voice_close(&voice);
  return true;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 4) return 0;
  std::size_t manifest = 0;
  for (int i = 3; i >= 0; --i) manifest = manifest << 8 | data[i];
  if (manifest > size - 4) manifest = size - 4;
  write_file("/manifest.json", data + 4, manifest);
  write_file("/w", data + 4 + manifest, size - 4 - manifest);
  open_and_speak(folder(), false);
  return 0;
}
