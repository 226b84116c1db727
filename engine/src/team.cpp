#include "team.h"

#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

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

// The threads of a team, and what they wait for.
class Team::Crew {
 public:
  explicit Crew(int workers) : barrier_(workers) {
    try {
      for (int worker = 1; worker < workers; ++worker) threads_.emplace_back(&Crew::serve, this, worker);
    } catch (const std::system_error&) {
      stop();
      throw Fault(Kind::memory, "the system does not start " + std::to_string(workers) + " threads");
    } catch (...) {
      stop();
      throw;
    }
  }
  ~Crew() { stop(); }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  void run(const std::function<void(int, Barrier&)>& work) {
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

 private:
  void serve(int worker) {
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

  void stop() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      over_ = true;
    }
    begun_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  Barrier barrier_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable turn_, begun_, ended_;
  long long came_ = 0, served_ = 0;  // callers so far
  const std::function<void(int, Barrier&)>* work_ = nullptr;
  int runs_ = 0;
  std::atomic<int> working_{0};
  bool over_ = false;
  std::vector<std::thread> threads_;  // last: they use all the others
};

// All teams of the process. When it forks, those of the child lose their crews: the threads are not there, and another
// thread of the parent may have held any of their locks.
class Teams {
 public:
  // Never destroyed: a team may outlive everything that is static.
  static Teams& all() {
    static Teams* const teams = new Teams;
    return *teams;
  }

  void add(Team* team) {
    const std::lock_guard<std::mutex> lock(mutex_);
    teams_.push_back(team);
  }

  void remove(Team* team) {
    const std::lock_guard<std::mutex> lock(mutex_);
    teams_.erase(std::find(teams_.begin(), teams_.end(), team));
  }

  // The crew of a team that has none yet, which several threads may ask for at once.
  Team::Crew& start(Team& team) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!team.crew_) team.crew_ = new Team::Crew(team.workers_);
    return *team.crew_;
  }

 private:
  Teams() {
    pthread_atfork([] { all().mutex_.lock(); }, [] { all().mutex_.unlock(); }, [] { all().begin_child(); });
  }

  void begin_child() {
    for (Team* team : teams_) {
      if (Team::Crew* crew = team->crew_.exchange(nullptr)) lost_.push_back(crew);
    }
    mutex_.unlock();
  }

  std::mutex mutex_;  // guards what follows, also while a process forks
  std::vector<Team*> teams_;
  std::vector<Team::Crew*> lost_;  // which cannot be destroyed: their threads cannot be joined, nor their locks be free
};

Team::Team(int workers) : workers_(workers), crew_(new Crew(workers)) { Teams::all().add(this); }

Team::~Team() {
  Teams::all().remove(this);
  delete crew_.load();
}

void Team::run(const std::function<void(int, Barrier&)>& work) { crew().run(work); }

Team::Crew& Team::crew() {
  Crew* found = crew_.load(std::memory_order_acquire);
  return found ? *found : Teams::all().start(*this);
}

int part_end(int count, int workers, int worker, int block) {
  const int blocks = (count + block - 1) / block;
  const int end = static_cast<int>(static_cast<long long>(blocks) * (worker + 1) / workers) * block;
  return std::min(end, count);
}

}  // namespace fte
