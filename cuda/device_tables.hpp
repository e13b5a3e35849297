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

  /// The rows as they are from now on.
  void take(std::span<const Row> rows);

  /// The groups, as the device has them.
  std::span<const GroupTable> groups() const { return groups_; }

  /// Groups the rows anew, by their multipliers. Allocates, and waits for the device.
  void regroup(std::span<const Row> rows);

  /// Points the device at the gradients of the rows, which takes one launch if any has moved. The
  /// values travel with the launch. Once one was captured replays may leave others at any time:
  /// then all are to be sent each time.
  void send(bool all, Stream stream);

 private:
  struct Release {
    void operator()(void* memory) const { runtime::release(memory); }
  };

  std::unique_ptr<void, Release> memory_, groups_memory_;
  std::vector<GroupTable> groups_;
  Tables tables_{};
  // Gradients and behind them marks, as words: what the device has, and what it is to have.
  std::vector<std::uint64_t> sent_, next_;
  bool is_known_ = true;  // what the device has: not if a launch failed
  bool is_sent_ = false;  // what it is to have
};

}  // namespace ravine::cuda
