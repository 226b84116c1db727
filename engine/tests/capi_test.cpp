// The C API on a small voice: what it says, in every precision; streams at once; and everything that may come in wrong.
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "bundle_parts.h"
#include "check.h"
#include "fte/fte.h"

namespace {

using fte_test::read_file;
using fte_test::write_file;

std::string data;  // folder of the tests' data
const std::int64_t kIds[] = {1, 5, 2, 11, 0, 7, 3};
constexpr std::size_t kCount = 7;

fte_voice* open_voice(const char* precision, int threads = 2) {
  fte_voice_options options;
  fte_voice_options_init(&options);
  options.precision = precision;
  options.threads = threads;
  fte_voice* voice = nullptr;
  const fte_status status = fte_voice_open((data + "/voice").c_str(), &options, &voice);
  if (status != FTE_OK) std::fprintf(stderr, "%s\n", fte_last_error());
  CHECK(status == FTE_OK && voice);
  return voice;
}

fte_stream_options test_options() {  // as make_voice.py has them
  fte_stream_options options;
  fte_stream_options_init(&options);
  options.speaker = 1;
  options.seed = 5;
  options.gate_threshold = 2.0F;
  options.stop_with_attention = 0;
  options.max_frames = 40;
  options.first_chunk = 20;
  options.chunk = 20;
  options.overlap = 20;
  return options;
}

std::vector<float> drain(fte_stream** stream) {
  std::vector<float> all;
  const float* samples = nullptr;
  std::size_t count = 0;
  fte_status status;
  while ((status = fte_stream_next(*stream, &samples, &count)) == FTE_OK)
    all.insert(all.end(), samples, samples + count);
  CHECK(status == FTE_END);
  CHECK(fte_stream_next(*stream, &samples, &count) == FTE_END);
  CHECK(fte_stream_close(stream) == FTE_OK && !*stream);
  return all;
}

std::vector<float> speak(fte_voice* voice, const fte_stream_options& options) {
  fte_stream* stream = nullptr;
  CHECK(fte_stream_start(voice, kIds, kCount, &options, &stream) == FTE_OK);
  return drain(&stream);
}

double snr(const std::vector<float>& found, const std::vector<float>& expected) {
  CHECK(found.size() == expected.size());
  double error = 1e-30, power = 0.0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    error += std::pow(found[i] - expected[i], 2);
    power += std::pow(expected[i], 2);
  }
  return 10.0 * std::log10(power / error);
}

void samples_are_those_of_onnx_runtime() {
  const std::string raw = read_file(data + "/expected.f32");
  std::vector<float> expected(raw.size() / 4);
  std::memcpy(expected.data(), raw.data(), raw.size());
  const struct {
    const char* precision;
    double decibels;
  } kCases[] = {{"fp32", 100.0}, {"fp16", 60.0}, {"bf16", 40.0}, {"int8", 35.0}};
  for (const auto& c : kCases) {
    fte_voice* voice = open_voice(c.precision);
    const double found = snr(speak(voice, test_options()), expected);
    std::printf("%s: %.1f dB\n", c.precision, found);
    CHECK(found > c.decibels);
    CHECK(fte_voice_close(&voice) == FTE_OK && !voice);
  }
}

// A style of several frames is repeated in time, as the Python runtime's native backend does.
void a_style_of_several_frames_is_repeated() {
  const std::string raw = read_file(data + "/expected_style.f32");
  std::vector<float> expected(raw.size() / 4), rows(3 * 8), all(40 * 8);
  std::memcpy(expected.data(), raw.data(), raw.size());
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i % 7) / 4 - 0.75F;
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = rows[i % rows.size()];
  fte_voice* voice = open_voice("fp32");
  fte_stream_options options = test_options();
  options.style = rows.data();
  options.style_frames = 3;
  const std::vector<float> found = speak(voice, options);
  const double decibels = snr(found, expected);
  std::printf("a style of three frames: %.1f dB\n", decibels);
  CHECK(decibels > 100.0);
  options.style = all.data();
  options.style_frames = 40;
  CHECK(speak(voice, options) == found);
  CHECK(fte_voice_close(&voice) == FTE_OK);
}

void information_is_that_of_the_manifest() {
  fte_voice* voice = open_voice(nullptr);
  fte_voice_info info;
  CHECK(fte_voice_get_info(voice, &info) == FTE_OK);
  CHECK(info.sample_rate == 22050 && info.hop == 16 && info.n_symbols == 12 && info.n_speakers == 2 &&
        info.n_mels == 8);
  CHECK(fte_voice_close(&voice) == FTE_OK);
}

// Small chunks, another number of threads, given latents: each of them changes nothing that it should not.
void the_way_does_not_matter() {
  fte_voice *one = open_voice("fp32", 1), *three = open_voice("fp32", 3);
  fte_stream_options options = test_options();
  const std::vector<float> whole = speak(one, options);
  CHECK(whole == speak(three, options));
  options.first_chunk = 1;
  options.chunk = 7;
  CHECK(snr(speak(one, options), whole) > 100.0);
  options = test_options();
  options.seed = 6;
  CHECK(snr(speak(one, options), whole) < 20.0);

  const std::vector<float> z(40 * 8, 0.25F);
  options.z = z.data();
  options.z_frames = 40;
  const std::vector<float> given = speak(one, options);
  options.z = nullptr;
  options.sigma = 0.0F;
  options.style = z.data();
  options.style_frames = 1;
  CHECK(given == speak(one, options));
  options.max_frames = 12;
  CHECK(speak(one, options).size() == 12 * 16);
  options.max_frames = 0;
  options.gate_threshold = 0.0F;  // the gate ends the utterance with its first frame
  CHECK(speak(one, options).size() == 16);
  fte_voice_close(&one);
  fte_voice_close(&three);
}

void streams_do_not_disturb_each_other() {
  fte_voice* voice = open_voice("int8");
  const std::vector<float> alone = speak(voice, test_options());
  std::vector<std::vector<float>> found(4);
  std::vector<std::thread> threads;
  for (std::vector<float>& each : found) threads.emplace_back([&] { each = speak(voice, test_options()); });
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<float>& each : found) CHECK(each == alone);

  fte_stream* stream = nullptr;
  const fte_stream_options options = test_options();
  CHECK(fte_stream_start(voice, kIds, kCount, &options, &stream) == FTE_OK);
  CHECK(fte_voice_close(&voice) == FTE_OK);  // the stream keeps what it needs
  CHECK(drain(&stream) == alone);
}

void a_cancelled_stream_stops() {
  fte_voice* voice = open_voice("fp32");
  fte_stream* stream = nullptr;
  const float* samples = nullptr;
  std::size_t count = 0;
  CHECK(fte_stream_start(voice, kIds, kCount, nullptr, &stream) == FTE_OK);
  CHECK(fte_stream_next(stream, &samples, &count) == FTE_OK && count > 0);
  std::thread([&] { CHECK(fte_stream_cancel(stream) == FTE_OK); }).join();
  CHECK(fte_stream_next(stream, &samples, &count) == FTE_CANCELLED && !samples && count == 0);
  CHECK(std::strstr(fte_last_error(), "cancelled"));
  fte_stream_close(&stream);
  fte_voice_close(&voice);
}

void refuses(fte_status status) {
  CHECK(status == FTE_INVALID_ARGUMENT);
  CHECK(std::strlen(fte_last_error()) > 5);
}

void wrong_arguments_are_refused() {
  fte_voice* voice = nullptr;
  fte_stream* stream = nullptr;
  fte_voice_info info;
  const float* samples = nullptr;
  std::size_t count = 0;
  refuses(fte_voice_open(nullptr, nullptr, &voice));
  refuses(fte_voice_open("", nullptr, &voice));
  CHECK(std::strstr(fte_last_error(), "empty"));
  refuses(fte_voice_open("x", nullptr, nullptr));
  refuses(fte_voice_close(nullptr));
  refuses(fte_voice_close(&voice));
  refuses(fte_voice_get_info(nullptr, &info));
  refuses(fte_stream_start(nullptr, kIds, kCount, nullptr, &stream));
  refuses(fte_stream_next(nullptr, &samples, &count));
  refuses(fte_stream_cancel(nullptr));
  refuses(fte_stream_close(&stream));
  fte_voice_options bad;
  fte_voice_options_init(&bad);
  bad.threads = -1;
  refuses(fte_voice_open((data + "/voice").c_str(), &bad, &voice));
  bad.threads = 0;
  for (std::uint32_t size : {0U, 3U, 12U, static_cast<std::uint32_t>(sizeof bad) + 1}) {
    bad.struct_size = size;
    refuses(fte_voice_open((data + "/voice").c_str(), &bad, &voice));
  }

  voice = open_voice("fp32");
  refuses(fte_voice_get_info(voice, nullptr));
  refuses(fte_stream_start(voice, nullptr, kCount, nullptr, &stream));
  refuses(fte_stream_start(voice, kIds, 0, nullptr, &stream));
  refuses(fte_stream_start(voice, kIds, 1001, nullptr, &stream));
  refuses(fte_stream_start(voice, kIds, kCount, nullptr, nullptr));
  for (std::int64_t id : {std::int64_t{-1}, std::int64_t{12}, std::int64_t{1} << 40}) {
    refuses(fte_stream_start(voice, &id, 1, nullptr, &stream));
  }
  std::vector<float> values(8 * 4, NAN);  // then 8 values of which one is beyond what speech has, and 8 of 3e38
  values.resize(values.size() + 8, 1.0F);
  values.back() = -100.1F;
  values.resize(values.size() + 8, 3e38F);
  void (*const kWrong[])(fte_stream_options&, const float*) = {
      [](fte_stream_options& o, const float*) { o.struct_size = 0; },
      [](fte_stream_options& o, const float*) { o.struct_size = 4096; },
      [](fte_stream_options& o, const float*) { o.speaker = 2; },
      [](fte_stream_options& o, const float*) { o.speaker = -1; },
      [](fte_stream_options& o, const float*) { o.sigma = NAN; },
      [](fte_stream_options& o, const float*) { o.sigma = -1; },
      [](fte_stream_options& o, const float*) { o.vocoder_sigma = 11; },
      [](fte_stream_options& o, const float*) { o.gate_threshold = NAN; },
      [](fte_stream_options& o, const float*) { o.temperature = 0; },
      [](fte_stream_options& o, const float*) { o.temperature = INFINITY; },
      [](fte_stream_options& o, const float*) { o.max_frames = -1; },
      [](fte_stream_options& o, const float*) { o.max_frames = 10001; },
      [](fte_stream_options& o, const float*) { o.seed = UINT64_MAX; },
      [](fte_stream_options& o, const float*) { o.chunk = 0; },
      [](fte_stream_options& o, const float*) { o.first_chunk = -3; },
      [](fte_stream_options& o, const float*) { o.overlap = -1; },
      [](fte_stream_options& o, const float* v) { o.z = v, o.z_frames = 0; },
      [](fte_stream_options& o, const float* v) { o.z = v, o.z_frames = 4; },
      [](fte_stream_options& o, const float* v) { o.style = v, o.style_frames = 4; },
      [](fte_stream_options& o, const float* v) { o.style = v, o.style_frames = 10001; },
      [](fte_stream_options& o, const float* v) { o.z = v + 32, o.z_frames = 1; },
      [](fte_stream_options& o, const float* v) { o.style = v + 32, o.style_frames = 1; },
      [](fte_stream_options& o, const float* v) { o.style = v + 40, o.style_frames = 1; },
  };
  for (const auto& change : kWrong) {
    fte_stream_options options;
    fte_stream_options_init(&options);
    change(options, values.data());
    refuses(fte_stream_start(voice, kIds, kCount, &options, &stream));
    CHECK(!stream);
  }
  const std::vector<float> most(8, -100.0F);
  fte_stream_options options = test_options();
  options.style = most.data();
  options.style_frames = 1;
  CHECK(fte_stream_start(voice, kIds, kCount, &options, &stream) == FTE_OK);
  CHECK(fte_stream_close(&stream) == FTE_OK);
  CHECK(fte_stream_start(voice, kIds, kCount, nullptr, &stream) == FTE_OK);
  refuses(fte_stream_next(stream, nullptr, &count));
  refuses(fte_stream_next(stream, &samples, nullptr));
  CHECK(fte_stream_close(&stream) == FTE_OK);
  refuses(fte_stream_close(&stream));
  refuses(fte_stream_next(stream, &samples, &count));
  CHECK(fte_voice_close(&voice) == FTE_OK);
  refuses(fte_voice_close(&voice));
  fte_voice_options_init(nullptr);
  fte_stream_options_init(nullptr);
}

fte_status open_copy(const std::string& folder, const char* precision, bool check) {
  fte_voice_options options;
  fte_voice_options_init(&options);
  options.precision = precision;
  options.check_hash = check;
  options.threads = 1;
  fte_voice* voice = nullptr;
  const fte_status status = fte_voice_open(folder.c_str(), &options, &voice);
  CHECK((status == FTE_OK) == (voice != nullptr));
  if (voice) fte_voice_close(&voice);
  return status;
}

// What an error repeats of what came from outside is one line of UTF-8 that no terminal acts on, and is not long.
void errors_are_sentences() {
  const std::string long_name(5000, 'x');
  for (const std::string& name : {std::string("x\ny"), std::string("\x1b[31m\xff\xfe"), long_name}) {
    CHECK(open_copy(data + "/voice", name.c_str(), true) == FTE_BAD_BUNDLE);
    CHECK(fte_test::is_sentence(fte_last_error()) && std::strlen(fte_last_error()) < 500);
    CHECK(open_copy("/tmp/" + name, nullptr, true) == FTE_BAD_BUNDLE);
    CHECK(fte_test::is_sentence(fte_last_error()));
    CHECK(!std::strchr(fte_last_error(), '\xff'));
  }
  CHECK(open_copy(data + "/voice", "x\ny", true) == FTE_BAD_BUNDLE && std::strstr(fte_last_error(), "x\\ny"));
}

void damaged_bundles_are_refused() {
  char name[] = "/tmp/fte_test_XXXXXX";
  CHECK(mkdtemp(name));
  const std::string folder = name, manifest = read_file(data + "/voice/manifest.json");
  const std::string file = "/engine.int8.safetensors", weights = read_file(data + "/voice" + file);
  CHECK(open_copy(folder, "int8", true) == FTE_BAD_BUNDLE);  // an empty folder
  CHECK(open_copy(folder + "/nothing", "int8", true) == FTE_BAD_BUNDLE);
  write_file(folder + "/manifest.json", manifest);
  CHECK(open_copy(folder, "int8", true) == FTE_BAD_BUNDLE);  // no weights
  write_file(folder + file, weights);
  CHECK(open_copy(folder, "int8", true) == FTE_OK);
  CHECK(open_copy(folder, "fp64", true) == FTE_BAD_BUNDLE);

  std::string flipped = weights;
  flipped[weights.size() - 100] = static_cast<char>(flipped[weights.size() - 100] ^ 1);
  write_file(folder + file, flipped);
  CHECK(open_copy(folder, "int8", true) == FTE_BAD_BUNDLE);  // its hash differs
  CHECK(std::strstr(fte_last_error(), "SHA-256"));
  CHECK(open_copy(folder, "int8", false) == FTE_OK);  // and nobody looks
  for (std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{100}, weights.size() / 2, weights.size() - 1}) {
    write_file(folder + file, weights.substr(0, size));
    CHECK(open_copy(folder, "int8", false) == FTE_BAD_BUNDLE);
  }
  write_file(folder + file, weights);
  for (std::size_t i = 0; i < manifest.size(); i += 97) {
    write_file(folder + "/manifest.json", manifest.substr(0, i));
    CHECK(open_copy(folder, "int8", false) == FTE_BAD_BUNDLE);
  }
  const struct {
    const char *from, *to;
  } kChanges[] = {{"\"n_mels\": 8", "\"n_mels\": 9"},
                  {"\"n_hidden\": 12", "\"n_hidden\": 0"},
                  {"\"n_hidden\": 12", "\"n_hidden\": -12"},
                  {"\"n_hidden\": 12", "\"n_hidden\": 1e30"},
                  {"\"n_hidden\": 12", "\"n_hidden\": 12.5"},
                  {"\"n_layers\": 2", "\"n_layers\": 60"},
                  {"\"version\": 1", "\"version\": 2"},
                  {"\"fte-voice\"", "\"fte-noise\""},
                  {"\"n_group\": 8", "\"n_group\": 3"},
                  {"engine.int8.safetensors\"", "../engine.int8.safetensors\""},
                  {"\"n_group\": 8", "\"n_group\": 128"},
                  {"\"kernel_size\": 3", "\"kernel_size\": 65535"},
                  {"\"kernel_size\": 3", "\"kernel_size\": 2"},
                  {"\"n_channels\": 12", "\"n_channels\": 65536"},
                  {"\"id0\",", "\"id0\", [}"}};
  for (const auto& change : kChanges) {
    std::string changed = manifest;
    const std::size_t place = changed.rfind(change.from);
    CHECK(place != std::string::npos);
    write_file(folder + "/manifest.json", changed.replace(place, std::strlen(change.from), change.to));
    CHECK(open_copy(folder, "int8", false) == FTE_BAD_BUNDLE);
  }
  std::string many = "{\"format\": [0";
  for (int i = 0; i < 300000; ++i) many += ",0";
  write_file(folder + "/manifest.json", many + "]}");
  CHECK(open_copy(folder, "int8", false) == FTE_BAD_BUNDLE);
  CHECK(std::strstr(fte_last_error(), "too many values"));
  unlink((folder + file).c_str());
  unlink((folder + "/manifest.json").c_str());
  rmdir(folder.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  data = argv[1];
  information_is_that_of_the_manifest();
  samples_are_those_of_onnx_runtime();
  the_way_does_not_matter();
  streams_do_not_disturb_each_other();
  a_cancelled_stream_stops();
  a_style_of_several_frames_is_repeated();
  wrong_arguments_are_refused();
  errors_are_sentences();
  damaged_bundles_are_refused();
  CHECK(std::strlen(fte_version()) >= 5);
  return 0;
}
