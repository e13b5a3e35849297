// Everything public.
#pragma once

#include "ravine/cuda.hpp"        // IWYU pragma: export
#include "ravine/error.hpp"       // IWYU pragma: export
#include "ravine/loss_scale.hpp"  // IWYU pragma: export
#include "ravine/options.hpp"     // IWYU pragma: export
#include "ravine/plan.hpp"        // IWYU pragma: export
#include "ravine/rules.hpp"       // IWYU pragma: export
#include "ravine/step.hpp"        // IWYU pragma: export
#include "ravine/tensor.hpp"      // IWYU pragma: export
#include "ravine/threads.hpp"     // IWYU pragma: export
#include "ravine/version.hpp"     // IWYU pragma: export
