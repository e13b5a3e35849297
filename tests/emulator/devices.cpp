#include "devices.hpp"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "ravine/error.hpp"

namespace ravine::emulator {
namespace {

struct Region {
  std::size_t bytes;
  int device;
};

thread_local int current = 0;

std::mutex mutex;  // guards what follows
std::map<std::uintptr_t, Region> regions;
int allocations_to_failure = 0;
bool driver = true;

std::uintptr_t address(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

bool next_allocation_fails() {
  const std::lock_guard lock(mutex);
  return allocations_to_failure > 0 && --allocations_to_failure == 0;
}

}  // namespace

void fail(const char* text) { throw Error(std::string("CUDA: ") + text); }

int current_device() { return current; }

void set_device(int index) {
  if (index < 0 || index >= device_count) fail("invalid device ordinal");
  current = index;
}

void register_memory(const void* pointer, std::size_t bytes, int device) {
  const std::lock_guard lock(mutex);
  regions[address(pointer)] = {bytes, device};
}

void unregister_memory(const void* pointer) {
  const std::lock_guard lock(mutex);
  regions.erase(address(pointer));
}

int device_of(const void* pointer) {
  if (pointer == nullptr) return no_device;
  const std::lock_guard lock(mutex);
  const auto next = regions.upper_bound(address(pointer));
  if (next == regions.begin()) return 0;
  const auto& [begin, region] = *std::prev(next);
  return address(pointer) - begin < region.bytes ? region.device : 0;
}

void* allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  // Aligned as CUDA's, and with no room behind the end in which a slip would not be seen.
  if (next_allocation_fails() || posix_memalign(&memory, 256, bytes) != 0) {
    throw OutOfMemoryError("The GPU has no " + std::to_string(bytes) +
                           " bytes of memory left. Free some, and build the optimizer again.");
  }
  std::memset(memory, 0xff, bytes);
  register_memory(memory, bytes, current);
  return memory;
}

void release(void* memory) {
  if (memory == nullptr) return;
  unregister_memory(memory);
  std::free(memory);
}

void fail_allocation_after(int count) {
  const std::lock_guard lock(mutex);
  allocations_to_failure = count;
}

void set_driver(bool present) {
  const std::lock_guard lock(mutex);
  driver = present;
}

bool has_driver() {
  const std::lock_guard lock(mutex);
  return driver;
}

void reset_devices() {
  fail_allocation_after(0);
  set_driver(true);
  current = 0;
}

}  // namespace ravine::emulator
