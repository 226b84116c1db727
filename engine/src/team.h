// Threads that work on one thing stage after stage, and the barrier between the stages.
#pragma once

#include <atomic>
#include <functional>

namespace fte {

constexpr int kMostThreads = 256;  // that a caller may ask for

// Every worker waits for all the others. Waiting is awake for a while, as a stage lasts microseconds, and then gives
// the core away, so that a machine that is busy with something else does not stand still.
class Barrier {
 public:
  explicit Barrier(int workers) : workers_(workers) {}

  // Say that this worker has arrived; the number to `wait` with, once what else it can do is done.
  int arrive();
  void wait(int round);
  void wait() { wait(arrive()); }

 private:
  const int workers_;
  std::atomic<int> arrived_{0};
  std::atomic<int> round_{0};
};

// Workers 0 (the caller's thread) to n - 1. `run` returns when all are done; the threads sleep between runs. A fork
// leaves the threads behind: in the child, the next run starts others.
class Team {
 public:
  // Throws Fault where the system refuses so many threads.
  explicit Team(int workers);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int workers() const { return workers_; }

  // work(worker, barrier) is called once on each worker and must pass the barrier equally often on all. It must not
  // throw. Callers on several threads take turns, in the order in which they came. Throws Fault as the constructor
  // does, in the child of a fork.
  void run(const std::function<void(int, Barrier&)>& work);

 private:
  class Crew;
  friend class Teams;

  Crew& crew();

  const int workers_;
  std::atomic<Crew*> crew_{nullptr};  // nothing in the child of a fork until it runs
};

// Where the part of `worker` of `count` things ends, in blocks of `block`; it begins where the part before it ends.
int part_end(int count, int workers, int worker, int block);

}  // namespace fte
