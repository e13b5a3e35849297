#include "block.hpp"

#include <algorithm>
#include <bit>
#include <exception>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cpu/floating_point.hpp"
#include "fiber.hpp"
#include "schedule.hpp"
#include "thread.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace ravine::emulator {
namespace {

/// Unwinds a thread whose block has failed.
struct Abandoned {};

/// The block that runs. Its threads start one after the other on the same fiber; only a thread that
/// has to wait keeps it, and the others go on with a new one.
class Block {
 public:
  void run(unsigned index, const Launch& launch, Schedule& schedule);
  void forget_order() { order_.clear(); }

  void wait_for_block(Place place);
  std::uint64_t exchange(Operation operation, unsigned mask, std::uint64_t value, unsigned source,
                         Place place);

 private:
  void start_all();
  void start_threads();  // on a fiber
  bool resume_ready();
  void resume(unsigned thread);
  void abandon();

  void select(unsigned thread) { current_ = threadIdx.x = thread; }
  void suspend(Thread& self);
  void finish_exchange(Thread& self, Thread* warp);
  std::string where() const { return "Block " + std::to_string(blockIdx.x) + ": "; }

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> spare_;  // those on which no thread waits

  const std::function<void()>* kernel_ = nullptr;
  std::vector<Thread> threads_;
  std::vector<unsigned> order_;
  std::vector<unsigned> waiting_;  // of each warp, in its operations: one bit a lane
  std::size_t started_ = 0, returned_ = 0, at_barrier_ = 0;
  unsigned current_ = 0;
  Fiber* running_ = nullptr;
  std::exception_ptr failure_;
  bool abandons_ = false;
};

Block block;

void Block::run(unsigned index, const Launch& launch, Schedule& schedule) {
  blockIdx = {index, 0, 0};
  kernel_ = &launch.kernel;
  threads_.assign(launch.threads, {});
  waiting_.assign((launch.threads + warp_threads - 1) / warp_threads, 0);
  schedule.order(launch.threads, order_);
  started_ = returned_ = at_barrier_ = 0;
  start_all();
  while (returned_ < threads_.size() && !failure_) {
    if (resume_ready()) continue;
    failure_ = std::make_exception_ptr(Fault(where() + describe_deadlock(threads_) + "."));
  }
  if (!failure_) return;
  abandon();
  std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Block::start_all() {
  while (started_ < order_.size()) {
    if (spare_.empty()) {
      fibers_.push_back(std::make_unique<Fiber>([] { block.start_threads(); }));
      spare_.push_back(fibers_.back().get());
    }
    running_ = spare_.back();
    spare_.pop_back();
    running_->resume();
  }
}

void Block::start_threads() {
  Fiber* const self = running_;
  // Once more after a thread that had to wait: then all have been started meanwhile.
  while (started_ < order_.size()) {
    select(order_[started_++]);
    try {
      (*kernel_)();
    } catch (const Abandoned&) {
    } catch (...) {
      failure_ = std::current_exception();
      started_ = order_.size();
    }
    threads_[current_].state = State::returned;
    ++returned_;
  }
  spare_.push_back(self);
}

bool Block::resume_ready() {
  bool any = false;
  for (const unsigned thread : order_) {
    if (threads_[thread].state != State::ready) continue;
    any = true;
    resume(thread);
    if (failure_) break;
  }
  return any;
}

void Block::resume(unsigned thread) {
  select(thread);
  threads_[thread].state = State::running;
  running_ = threads_[thread].fiber;
  running_->resume();
}

void Block::abandon() {
  abandons_ = true;
  for (const unsigned thread : order_) {
    const State state = threads_[thread].state;
    if (state == State::waiting || state == State::ready) resume(thread);
  }
  abandons_ = false;
}

void Block::suspend(Thread& self) {
  self.fiber = running_;
  running_->suspend();
  if (abandons_) throw Abandoned{};
}

void Block::wait_for_block(Place place) {
  Thread& self = threads_[current_];
  self.state = State::waiting;
  self.operation = Operation::syncthreads;
  self.place = place;
  const bool all = ++at_barrier_ == threads_.size() &&
                   std::all_of(threads_.begin(), threads_.end(),
                               [&](const Thread& other) { return at_same_barrier(self, other); });
  if (!all) return suspend(self);
  at_barrier_ = 0;
  for (Thread& thread : threads_) thread.state = State::ready;
  self.state = State::running;
}

std::uint64_t Block::exchange(Operation operation, unsigned mask, std::uint64_t value,
                              unsigned source, Place place) {
  Thread& self = threads_[current_];
  Thread* const warp = &threads_[current_ / warp_threads * warp_threads];
  const auto lanes = static_cast<unsigned>(&threads_.back() + 1 - warp);
  if (lanes < warp_threads) mask &= (1u << lanes) - 1;
  self = {State::waiting, operation, place, mask, source, value, nullptr};
  const unsigned lane = current_ % warp_threads;
  if ((mask >> lane & 1) == 0) {
    throw Fault(where() + "thread " + std::to_string(current_) + " calls " + describe(self) +
                " with a mask without its own lane.");
  }
  unsigned& waiting = waiting_[current_ / warp_threads];
  waiting |= 1u << lane;
  bool all = (mask & ~waiting) == 0;
  for (unsigned rest = mask; all && rest != 0; rest &= rest - 1) {
    all = in_same_exchange(self, warp[std::countr_zero(rest)]);
  }
  if (all) {
    waiting &= ~mask;
    finish_exchange(self, warp);
  } else {
    suspend(self);
  }
  return self.value;
}

void Block::finish_exchange(Thread& self, Thread* warp) {
  // What a lane gets that is not named, or not there, is undefined: here all bits are set.
  std::uint64_t values[warp_threads];
  std::fill(std::begin(values), std::end(values), ~std::uint64_t{0});
  std::uint64_t votes = 0;
  for (unsigned rest = self.mask; rest != 0; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    values[lane] = warp[lane].value;
    votes |= std::uint64_t{values[lane] != 0} << lane;
  }
  const bool is_vote = self.operation == Operation::ballot || self.operation == Operation::any;
  for (unsigned rest = self.mask; rest != 0; rest &= rest - 1) {
    Thread& thread = warp[std::countr_zero(rest)];
    thread.value = is_vote ? votes : values[thread.source];
    thread.state = State::ready;
  }
  self.state = State::running;
}

}  // namespace

void run(const Launch& launch) {
  const cpu::DefaultFloatingPoint mode;
  blockDim = {launch.threads};
  gridDim = {launch.blocks};
  Schedule schedule;
  std::vector<unsigned> order;
  schedule.order(launch.blocks, order);
  block.forget_order();
  for (const unsigned index : order) block.run(index, launch, schedule);
}

unsigned current_lane() { return threadIdx.x % warp_threads; }

void wait_for_block(Place place) { block.wait_for_block(place); }

std::uint64_t exchange(Operation operation, unsigned mask, std::uint64_t value, unsigned source,
                       Place place) {
  return block.exchange(operation, mask, value, source, place);
}

}  // namespace ravine::emulator
