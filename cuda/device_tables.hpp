// The tables of a plan in the memory of its device, and the gradients in them, which move.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "chunks.hpp"
#include "runtime.hpp"
#include "tables.hpp"

namespace ravine::cuda {

class DeviceTables {
 public:
  /// Allocates on the current device. Waits for it.
  explicit DeviceTables(std::span<const Row> rows);

  const Tables& tables() const { return tables_; }

  /// Points the device at the gradients of the rows, which takes one launch if any has moved. The
  /// values travel with the launch. Once one was captured replays may leave others at any time, and
  /// all are sent each time.
  void send_gradients(std::span<const Row> rows, bool capturing, Stream stream);

 private:
  struct Release {
    void operator()(void* memory) const { runtime::release(memory); }
  };

  std::unique_ptr<void, Release> memory_;
  Tables tables_{};
  // Gradients and behind them marks, as words: what the device has, and what it is to have.
  std::vector<std::uint64_t> sent_, next_;
  bool is_known_ = true;  // what the device has: not if a launch failed
  bool was_captured_ = false;
};

}  // namespace ravine::cuda
