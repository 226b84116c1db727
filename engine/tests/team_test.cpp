// Workers pass a barrier together, and the parts of a thing are the whole of it.
#include "team.h"

#include <sys/resource.h>

#include <cstring>
#include <fstream>
#include <vector>

#include "check.h"
#include "fault.h"

namespace {

// Each stage reads what all the others wrote in the stage before.
void stages_follow_one_another(int workers, int stages) {
  fte::Team team(workers);
  for (int repetition = 0; repetition < 3; ++repetition) {
    std::vector<int> now(static_cast<std::size_t>(workers), 1);
    std::vector<int> next(now.size(), 0);
    team.run([&](int worker, fte::Barrier& barrier) {
      for (int stage = 0; stage < stages; ++stage) {
        std::vector<int>& from = stage % 2 ? next : now;
        std::vector<int>& to = stage % 2 ? now : next;
        int sum = 0;
        for (int value : from) sum = (sum + value) % 1009;
        to[static_cast<std::size_t>(worker)] = sum;
        barrier.wait();
      }
    });
    int wanted = 1;
    for (int stage = 0; stage < stages; ++stage) wanted = wanted * workers % 1009;
    for (int value : stages % 2 ? next : now) CHECK(value == wanted);
  }
}

void parts_are_the_whole() {
  for (int count : {1, 3, 4, 160, 4096}) {
    for (int workers : {1, 2, 3, 7}) {
      int start = 0;
      for (int worker = 0; worker < workers; ++worker) {
        const int end = fte::part_end(count, workers, worker, 4);
        CHECK(end >= start && (end % 4 == 0 || end == count));
        start = end;
      }
      CHECK(start == count);
    }
  }
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which need more addresses than the limit leaves
// No room for the stacks of so many threads: those that have begun end, and a sentence says so.
void too_many_threads_are_a_fault() {
  std::ifstream file("/proc/self/statm");
  rlim_t pages = 0;
  file >> pages;
  rlimit before;
  CHECK(getrlimit(RLIMIT_AS, &before) == 0);
  rlimit tight = before;
  tight.rlim_cur = pages * 4096 + (64 << 20);
  CHECK(setrlimit(RLIMIT_AS, &tight) == 0);
  bool refused = false;
  try {
    const fte::Team team(200);
  } catch (const fte::Fault& fault) {
    refused = std::strstr(fault.what(), "200 threads") && fault.kind() == fte::Kind::memory;
  }
  CHECK(setrlimit(RLIMIT_AS, &before) == 0);
  CHECK(refused);
}
#else
void too_many_threads_are_a_fault() {}
#endif

}  // namespace

int main() {
  for (int workers : {1, 2, 3, 8}) stages_follow_one_another(workers, 1001);
  parts_are_the_whole();
  too_many_threads_are_a_fault();
  std::printf("team: ok\n");
  return 0;
}
