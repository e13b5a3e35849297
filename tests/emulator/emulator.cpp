#include "emulator.hpp"

namespace ravine::emulator {

void reset() {
  reset_streams();
  reset_devices();
  set_schedule(0);
}

}  // namespace ravine::emulator
