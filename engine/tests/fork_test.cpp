// A child of a fork speaks as its parent does, whatever the parent's threads were doing.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "check.h"
#include "fte/fte.h"

namespace {

const std::int64_t kIds[] = {1, 5, 2, 11, 0, 7, 3};
constexpr unsigned kSeconds = 300;  // after which a child that hangs is ended

fte_stream* start(fte_voice* voice) {
  fte_stream_options options;
  fte_stream_options_init(&options);
  options.max_frames = 40;
  options.chunk = 20;
  fte_stream* stream = nullptr;
  CHECK(fte_stream_start(voice, kIds, 7, &options, &stream) == FTE_OK);
  return stream;
}

std::vector<float> drain(fte_stream* stream) {
  std::vector<float> all;
  const float* samples = nullptr;
  std::size_t count = 0;
  fte_status status;
  while ((status = fte_stream_next(stream, &samples, &count)) == FTE_OK) {
    all.insert(all.end(), samples, samples + count);
  }
  CHECK(status == FTE_END && fte_stream_close(&stream) == FTE_OK);
  return all;
}

template <class F>
void in_a_child(F&& work) {
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(kSeconds);
    work();
    _exit(0);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void a_child_speaks(fte_voice* voice, const std::vector<float>& expected) {
  in_a_child([&] {
    CHECK(drain(start(voice)) == expected);
    in_a_child([&] { CHECK(drain(start(voice)) == expected); });
    std::vector<std::thread> threads;  // which all find the voice without its threads
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { CHECK(drain(start(voice)) == expected); });
    for (std::thread& thread : threads) thread.join();
    CHECK(fte_voice_close(&voice) == FTE_OK);
  });
  in_a_child([&] { CHECK(fte_voice_close(&voice) == FTE_OK); });  // without having spoken
  CHECK(drain(start(voice)) == expected);
}

void a_stream_goes_on_in_a_child(fte_voice* voice, const std::vector<float>& expected) {
  fte_stream* stream = start(voice);
  const float* samples = nullptr;
  std::size_t count = 0;
  CHECK(fte_stream_next(stream, &samples, &count) == FTE_OK);
  const std::vector<float> rest(expected.begin() + static_cast<std::ptrdiff_t>(count), expected.end());
  in_a_child([&] { CHECK(drain(stream) == rest); });
  CHECK(drain(stream) == rest);
}

void a_fork_while_others_speak(fte_voice* voice, const std::vector<float>& expected, int forks) {
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] {
      while (!over) CHECK(drain(start(voice)) == expected);
    });
  }
  for (int i = 0; i < forks; ++i) in_a_child([&] { CHECK(drain(start(voice)) == expected); });
  over = true;
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

int main(int argc, char** argv) {
  CHECK(argc == 2);
  for (int threads : {1, 3}) {
    fte_voice_options options;
    fte_voice_options_init(&options);
    options.threads = threads;
    fte_voice* voice = nullptr;
    CHECK(fte_voice_open((std::string(argv[1]) + "/voice").c_str(), &options, &voice) == FTE_OK);
    const std::vector<float> expected = drain(start(voice));
    a_child_speaks(voice, expected);
    a_stream_goes_on_in_a_child(voice, expected);
    a_fork_while_others_speak(voice, expected, 10);
    CHECK(fte_voice_close(&voice) == FTE_OK);
  }
  return 0;
}
