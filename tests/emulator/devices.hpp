// Two devices: which one is current on a thread, and which one memory belongs to.
#pragma once

#include <cstddef>

namespace ravine::emulator {

constexpr int device_count = 2;
constexpr int no_device = -1;

/// Throws `Error` with the text that CUDA has for what went wrong.
[[noreturn]] void fail(const char* text);

int current_device();
void set_device(int index);

/// Lets memory belong to a device or, with `no_device`, to none. All other memory is device 0's.
void register_memory(const void* pointer, std::size_t bytes, int device);
void unregister_memory(const void* pointer);
/// `no_device` for nullptr too.
int device_of(const void* pointer);

/// Memory of the current device, all bits set. nullptr for no bytes. Throws `OutOfMemoryError`.
void* allocate(std::size_t bytes);
void release(void* memory);
/// The `count`-th call of `allocate` from now on fails. 0: none.
void fail_allocation_after(int count);

/// Whether the machine has a driver, and so any device at all.
void set_driver(bool present);
bool has_driver();

/// Forgets what was set; on other threads than this one the current device stays.
void reset_devices();

}  // namespace ravine::emulator
