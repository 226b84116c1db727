#include "team.h"

#include <algorithm>
#include <string>
#include <system_error>

#include "fault.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace fte {
namespace {

constexpr int kSpins = 4000;  // some 100 us: longer than any stage of a frame

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

// Wait until `value` is no longer `old`.
void wait_while(const std::atomic<int>& value, int old) {
  for (int spins = 0; value.load(std::memory_order_acquire) == old; ++spins) {
    if (spins < kSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

}  // namespace

int Barrier::arrive() {
  const int round = round_.load(std::memory_order_acquire);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == workers_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
  }
  return round;
}

void Barrier::wait(int round) { wait_while(round_, round); }

Team::Team(int workers) : barrier_(workers) {
  try {
    for (int worker = 1; worker < workers; ++worker) threads_.emplace_back(&Team::serve, this, worker);
  } catch (const std::system_error&) {
    stop();
    throw Fault(Kind::memory, "the system does not start " + std::to_string(workers) + " threads");
  } catch (...) {
    stop();
    throw;
  }
}

Team::~Team() { stop(); }

void Team::stop() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    over_ = true;
  }
  begun_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Team::run(const std::function<void(int, Barrier&)>& work) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    const long long own = came_++;
    turn_.wait(lock, [this, own] { return served_ == own; });
    work_ = &work;
    working_ = static_cast<int>(threads_.size());
    ++runs_;
  }
  begun_.notify_all();
  work(0, barrier_);
  for (int spins = 0; working_.load(std::memory_order_acquire) > 0 && spins < kSpins; ++spins) relax();
  std::unique_lock<std::mutex> lock(mutex_);
  ended_.wait(lock, [this] { return working_ == 0; });
  ++served_;
  lock.unlock();
  turn_.notify_all();
}

void Team::serve(int worker) {
  std::unique_lock<std::mutex> lock(mutex_);
  for (int seen = 0;;) {
    begun_.wait(lock, [this, seen] { return over_ || runs_ != seen; });
    if (over_) return;
    seen = runs_;
    const std::function<void(int, Barrier&)>* work = work_;
    lock.unlock();
    (*work)(worker, barrier_);
    lock.lock();
    if (--working_ == 0) ended_.notify_one();
  }
}

int part_end(int count, int workers, int worker, int block) {
  const int blocks = (count + block - 1) / block;
  const int end = static_cast<int>(static_cast<long long>(blocks) * (worker + 1) / workers) * block;
  return std::min(end, count);
}

}  // namespace fte
