// Memory that nobody has written yet: the system takes each page from near the thread that first
// writes to it, which should be the one that will update what lies there.
#pragma once

#include "backend.hpp"

namespace ravine::cpu {

/// Writes to each page of the slots, the average and the accumulator of a chunk, and changes
/// nothing.
void touch_state(const Row& row, const Chunk& chunk);

/// The same for all chunks, on the threads that update them.
void touch_state(const Work& work);

}  // namespace ravine::cpu
