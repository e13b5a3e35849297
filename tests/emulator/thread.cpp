#include "thread.hpp"

#include <cstring>
#include <utility>

namespace ravine::emulator {
namespace {

const char* name(Operation operation) {
  switch (operation) {
    case Operation::syncthreads:
      return "__syncthreads";
    case Operation::syncwarp:
      return "__syncwarp";
    case Operation::shfl:
      return "__shfl_sync";
    case Operation::shfl_xor:
      return "__shfl_xor_sync";
    case Operation::shfl_down:
      return "__shfl_down_sync";
    case Operation::ballot:
      return "__ballot_sync";
    case Operation::any:
      return "__any_sync";
  }
  return "";
}

bool is_same(Place a, Place b) {
  return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

/// A thread for which this one waits; itself if there is none.
std::size_t waited_for(const std::vector<Thread>& threads, std::size_t waiting) {
  const Thread& thread = threads[waiting];
  const bool waits_for_block = thread.operation == Operation::syncthreads;
  const std::size_t warp = waiting / warp_threads * warp_threads;
  for (std::size_t other = 0; other < threads.size(); ++other) {
    if (waits_for_block) {
      if (!at_same_barrier(thread, threads[other])) return other;
    } else if (other / warp_threads == waiting / warp_threads &&
               (thread.mask >> (other - warp) & 1) != 0 &&
               !in_same_exchange(thread, threads[other])) {
      return other;
    }
  }
  return waiting;
}

}  // namespace

bool at_same_barrier(const Thread& a, const Thread& b) {
  return a.state == State::waiting && b.state == State::waiting &&
         a.operation == Operation::syncthreads && b.operation == Operation::syncthreads &&
         is_same(a.place, b.place);
}

bool in_same_exchange(const Thread& a, const Thread& b) {
  return a.state == State::waiting && b.state == State::waiting && a.operation == b.operation &&
         a.mask == b.mask;
}

std::string describe(const Thread& thread) {
  const char* const slash = std::strrchr(thread.place.file, '/');
  return std::string(name(thread.operation)) + " (" +
         (slash != nullptr ? slash + 1 : thread.place.file) + ":" +
         std::to_string(thread.place.line) + ")";
}

std::string describe_deadlock(const std::vector<Thread>& threads) {
  std::size_t thread = 0;
  while (threads[thread].state != State::waiting) ++thread;
  std::size_t other = waited_for(threads, thread);
  // To the end of the chain if it has one: the thread that returned is the one to look at.
  for (std::size_t hop = 0; hop < threads.size() && threads[other].state == State::waiting; ++hop) {
    thread = std::exchange(other, waited_for(threads, other));
  }
  return "thread " + std::to_string(thread) + " waits in " + describe(threads[thread]) +
         " for thread " + std::to_string(other) + ", which " +
         (threads[other].state == State::returned ? "has returned"
                                                  : "waits in " + describe(threads[other]));
}

}  // namespace ravine::emulator
