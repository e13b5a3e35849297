// A CUDA device on the CPU, for tests where there is no GPU: what kernels are compiled with in
// place of CUDA's header, and what tests steer it with.
//
// Every thread of a block runs on a stack of its own, and the threads take turns where they
// synchronize, so that the compiler's sanitizers see into kernels as into all other code. Work that
// is put on a stream waits there until somebody needs its result. What the emulator does in one of
// several possible orders it does in one picked by `set_schedule`.
#pragma once

#include "block.hpp"
#include "devices.hpp"
#include "language.hpp"
#include "schedule.hpp"
#include "streams.hpp"

namespace ravine::emulator {

/// Forgets all that tests have set and all work that has not run. Streams stay, and whose memory it
/// is.
void reset();

}  // namespace ravine::emulator
