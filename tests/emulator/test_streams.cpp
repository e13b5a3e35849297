// Work on streams keeps the order that streams and events give it, and no other.
#include "streams.hpp"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fixtures.hpp"
#include "ravine/error.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

const std::string not_permitted = "CUDA: operation not permitted when stream is capturing";

Stream handle(std::uintptr_t number) { return reinterpret_cast<Stream>(number); }

class Streams : public Schedules {
 protected:
  /// Puts a kernel on a stream that notes that it has run.
  void note(Stream stream, char letter) {
    emulator::enqueue(stream, 1, 1, [this, letter] { notes_ += letter; });
  }

  const Stream first_ = emulator::create_stream(), second_ = emulator::create_stream();
  std::string notes_;
};
INSTANTIATE_TEST_SUITE_P(All, Streams, testing::Values(0, 1, 2, 3, 4));

TEST_P(Streams, RunNothingBeforeSomebodyWaits) {
  note(first_, 'a');
  note(first_, 'b');
  EXPECT_EQ(emulator::outstanding(), 2u);
  EXPECT_EQ(notes_, "");
  emulator::synchronize(first_);
  EXPECT_EQ(notes_, "ab");
  EXPECT_EQ(emulator::outstanding(), 0u);
}

TEST_P(Streams, EventOrdersTwoStreams) {
  emulator::Event event;
  note(first_, 'a');
  event.record(first_);
  note(first_, 'b');
  event.let_wait(second_);
  note(second_, 'c');
  emulator::synchronize(second_);
  EXPECT_LT(notes_.find('a'), notes_.find('c'));
  emulator::synchronize_all();
  EXPECT_EQ(notes_.size(), 3u);
}

TEST_P(Streams, EventMeansWhatWasRecordedLastBeforeTheWait) {
  emulator::Event event;
  event.let_wait(second_);  // for nothing
  event.record(first_);
  event.let_wait(second_);
  note(first_, 'a');
  event.record(first_);  // not for the wait above
  note(second_, 'b');
  emulator::synchronize(second_);
  EXPECT_NE(notes_.find('b'), std::string::npos);
  event.synchronize();
  EXPECT_NE(notes_.find('a'), std::string::npos);
}

TEST_F(Emulator, WithoutAnEventSomeOrderIsWrong) {
  const Stream first = emulator::create_stream(), second = emulator::create_stream();
  for (const bool has_event : {false, true}) {
    std::string all;
    for (const std::uint64_t seed : {0, 1}) {
      emulator::set_schedule(seed);
      int written = 0, read = 0;
      emulator::Event event;
      emulator::enqueue(first, 1, 1, [&] { written = 1; });
      event.record(first);
      if (has_event) event.let_wait(second);
      emulator::enqueue(second, 1, 1, [&] { read = written; });
      emulator::synchronize_all();
      all += read != 0 ? "right " : "wrong ";
    }
    EXPECT_EQ(all, has_event ? "right right " : "right wrong ");
  }
}

TEST_F(Emulator, RunsOnlyWhatIsWaitedForIfAscending) {
  const Stream first = emulator::create_stream(), second = emulator::create_stream();
  int runs = 0;
  emulator::enqueue(first, 1, 1, [&] { ++runs; });
  emulator::enqueue(second, 1, 1, [&] { ++runs; });
  emulator::synchronize(second);
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(emulator::outstanding(), 1u);
}

TEST_P(Streams, LegacyStreamWaitsForAllOthersAndRunsAtOnce) {
  note(first_, 'a');
  note(second_, 'b');
  note(handle(2), 'c');
  note(nullptr, 'd');
  EXPECT_EQ(notes_.size(), 4u);
  EXPECT_EQ(notes_.back(), 'd');
  note(first_, 'e');
  note(handle(1), 'f');
  EXPECT_EQ(notes_.substr(4), "ef");
}

TEST_P(Streams, LongQueuesRunByThemselves) {
  int runs = 0;
  for (int i = 0; i < 10001; ++i) emulator::enqueue(first_, 1, 1, [&] { ++runs; });
  EXPECT_EQ(runs, 10001);
}

TEST_P(Streams, FaultDropsAllWorkThatWaits) {
  note(first_, 'a');
  emulator::Event event;
  emulator::enqueue(first_, 1, 2, [] {
    if (threadIdx.x == 0) __syncthreads();
  });
  event.record(first_);
  event.let_wait(second_);
  note(second_, 'b');
  EXPECT_THROW(emulator::synchronize_all(), emulator::Fault);
  EXPECT_EQ(notes_, "a");
  EXPECT_EQ(emulator::outstanding(), 0u);
  event.let_wait(second_);
  note(second_, 'c');
  emulator::synchronize(second_);
  EXPECT_EQ(notes_, "ac");
}

TEST_P(Streams, TakeWorkFromSeveralThreads) {
  std::vector<std::thread> threads;
  int runs = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const Stream stream = emulator::create_stream();
      for (int k = 0; k < 50; ++k) {
        emulator::enqueue(stream, 1, 32, [&] {
          __syncwarp();
          runs += threadIdx.x == 0;
        });
        if (k % 10 == 0) emulator::synchronize(stream);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  emulator::synchronize_all();
  EXPECT_EQ(runs, 200);
}

TEST_P(Streams, CaptureRecordsAndReplays) {
  emulator::begin_capture(first_);
  EXPECT_TRUE(emulator::is_capturing(first_));
  EXPECT_FALSE(emulator::is_capturing(second_));
  note(first_, 'a');
  note(second_, 'x');
  note(first_, 'b');
  emulator::synchronize(second_);
  EXPECT_EQ(notes_, "x");
  const emulator::Graph graph = emulator::end_capture(first_);
  EXPECT_FALSE(emulator::is_capturing(first_));
  emulator::synchronize_all();
  EXPECT_EQ(notes_, "x");
  note(first_, 'c');
  graph.launch(first_);
  graph.launch(first_);
  note(first_, 'd');
  EXPECT_EQ(notes_, "x");
  emulator::synchronize(first_);
  EXPECT_EQ(notes_, "xcababd");
}

TEST_P(Streams, StreamThatWaitsForACapturedEventJoins) {
  emulator::Event fork, join;
  emulator::begin_capture(first_);
  note(first_, 'a');
  fork.record(first_);
  fork.let_wait(second_);
  EXPECT_TRUE(emulator::is_capturing(second_));
  note(second_, 'b');
  join.record(second_);
  join.let_wait(first_);
  note(first_, 'c');
  EXPECT_EQ(thrown<Error>([&] { emulator::end_capture(second_); }),
            "CUDA: capture was not ended in the same stream as it began");
  const emulator::Graph graph = emulator::end_capture(first_);
  EXPECT_FALSE(emulator::is_capturing(second_));
  graph.launch(second_);
  emulator::synchronize(second_);
  EXPECT_EQ(notes_, "abc");
  EXPECT_EQ(thrown<Error>([&] { join.let_wait(first_); }),
            "CUDA: operation not permitted on an event last recorded in a capturing stream");
}

TEST_P(Streams, CaptureForbidsWhatCudaForbids) {
  emulator::Event outside;
  outside.record(second_);
  const std::vector<std::function<void()>> calls{
      [&] { note(nullptr, 'a'); },
      [&] { note(handle(1), 'a'); },
      [&] { outside.record(nullptr); },
      [&] { outside.let_wait(nullptr); },
      [&] { outside.let_wait(first_); },
      [&] { emulator::synchronize(first_); },
      [&] { emulator::synchronize(nullptr); },
      [&] { emulator::require_no_capture(); },
      [&] { emulator::enqueue(first_, 1, 1, [] {}, &outside); },  // not loaded
  };
  for (std::size_t i = 0; i < calls.size(); ++i) {
    emulator::begin_capture(first_);
    EXPECT_EQ(thrown<Error>(calls[i]), not_permitted) << i;
    EXPECT_EQ(thrown<Error>([&] { emulator::end_capture(first_); }),
              "CUDA: operation failed due to a previous error during capture")
        << i;
    EXPECT_FALSE(emulator::is_capturing(first_));
  }
  EXPECT_EQ(notes_, "");
}

TEST_P(Streams, CaptureBeginsAndEndsOnce) {
  EXPECT_EQ(thrown<Error>([&] { emulator::begin_capture(nullptr); }), not_permitted);
  emulator::begin_capture(first_);
  EXPECT_EQ(thrown<Error>([&] { emulator::begin_capture(first_); }), not_permitted);
  emulator::end_capture(first_);
  EXPECT_EQ(thrown<Error>([&] { emulator::end_capture(first_); }),
            "CUDA: the operation cannot be performed in the present state");
}

TEST_P(Streams, CaptureAllowsTheRest) {
  const int loaded = 0, launched = 0;
  emulator::Event outside;
  outside.record(second_);
  emulator::load(&loaded);
  emulator::enqueue(second_, 1, 1, [] {}, &launched);
  emulator::begin_capture(first_);
  emulator::enqueue(first_, 1, 1, [] {}, &loaded);
  emulator::enqueue(first_, 1, 1, [] {}, &launched);
  outside.synchronize();
  emulator::synchronize(second_);
  emulator::synchronize_all();
  emulator::end_capture(first_);
}

TEST_P(Streams, RefuseWhatIsNoStreamOrNoLaunch) {
  EXPECT_EQ(thrown<Error>([&] { note(handle(12345), 'a'); }), "CUDA: invalid resource handle");
  EXPECT_EQ(thrown<Error>([&] { note(handle(3), 'a'); }), "CUDA: invalid resource handle");
  for (const auto& size : {std::pair{0u, 1u}, {1u, 0u}, {1u, 1025u}}) {
    EXPECT_EQ(thrown<Error>([&] { emulator::enqueue(first_, size.first, size.second, [] {}); }),
              "CUDA: invalid configuration argument");
  }
}

}  // namespace
}  // namespace ravine::test
