// Plan: arrays of any layout, and the floating-point mode of the caller.
#include "ravine/plan.hpp"

#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <optional>
#include <vector>

#include "model.hpp"
#include "plain_step.hpp"
#include "thrown.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace ravine::test {
namespace {

// ---------------------------------------------------------------------------- arrays of any layout

TEST(Plan, UpdatesVariablesOfAnyLayout) {
  // A 3 by 4 variable in the order of Fortran; the gradient in that of C, reversed, or spread out.
  const std::int64_t shape[] = {3, 4}, fortran[] = {4, 12}, c[] = {16, 4};
  const std::int64_t reversed[] = {-16, -4}, spread[] = {64, 8};
  std::vector<float> g(48);
  for (std::size_t i = 0; i < g.size(); ++i) g[i] = static_cast<float>(i);
  const struct {
    const std::int64_t* strides;
    std::size_t start;
  } layouts[] = {{fortran, 0}, {c, 0}, {reversed, 11}, {spread, 0}, {nullptr, 0}};
  std::vector<float> w(12);
  Variable variable{"w", TensorView(w.data(), 12), {}, {}, {}};
  variable.value.rank = 2;
  variable.value.shape = shape;
  variable.value.strides_bytes = fortran;
  Plan plan({variable});
  for (const auto& layout : layouts) {
    std::fill(w.begin(), w.end(), 100.0f);
    TensorView gradient(g.data() + layout.start, 12);
    gradient.rank = 2;
    gradient.shape = shape;
    gradient.strides_bytes = layout.strides;
    AnyRule rule = SGD{};
    plan.step(rule, {}, 1.0, 0, {&gradient, 1});
    const std::int64_t* const strides = layout.strides == nullptr ? c : layout.strides;
    for (std::int64_t i = 0; i < 3; ++i) {
      for (std::int64_t j = 0; j < 4; ++j) {
        const auto from =
            static_cast<std::int64_t>(layout.start) + (i * strides[0] + j * strides[1]) / 4;
        EXPECT_EQ(w[static_cast<std::size_t>(i + 3 * j)],
                  100.0f - g[static_cast<std::size_t>(from)]);
      }
    }
  }
}

TEST(Plan, UpdatesMisalignedVariables) {
  std::vector<std::byte> memory(4 * 100 + 1), gradient_memory(4 * 100 + 3);
  const std::vector<float> values = random_values<float>(100, 1), g = random_values<float>(100, 2);
  std::memcpy(memory.data() + 1, values.data(), 400);
  std::memcpy(gradient_memory.data() + 3, g.data(), 400);
  Plan plan({{"w", TensorView(memory.data() + 1, 100, DType::float32), {}, {}, {}}});
  const TensorView gradient(gradient_memory.data() + 3, 100, DType::float32);
  AnyRule rule = SGD{};
  plan.step(rule, {}, 0.1, 0, {&gradient, 1});
  for (std::size_t i = 0; i < 100; ++i) {
    float found;
    std::memcpy(&found, memory.data() + 1 + 4 * i, 4);
    EXPECT_EQ(found, values[i] - g[i] * 0.1f);
  }
}

TEST(Plan, UpdatesVariablesWithoutAxes) {
  float w = 1.0f, g = 0.5f;
  const std::int64_t nothing = 0;
  for (const std::int64_t* const shape : {static_cast<const std::int64_t*>(nullptr), &nothing}) {
    TensorView value(&w, 1), gradient(&g, 1);
    value.rank = gradient.rank = 0;
    value.shape = gradient.shape = shape;
    value.strides_bytes = gradient.strides_bytes = shape;
    w = 1.0f;
    Plan plan({{"w", value, {}, {}, {}}});
    AnyRule rule = SGD{};
    plan.step(rule, {}, 1.0, 0, {&gradient, 1});
    EXPECT_EQ(w, 0.5f);
    plan.step(rule, {}, 1.0, 1, {&gradient, 1});
    EXPECT_EQ(w, 0.0f);
  }
}

TEST(Plan, TakesGradientThatRepeatsItsElements) {
  std::vector<float> w(6, 1.0f);
  float g = 0.25f;
  const std::int64_t shape[] = {2, 3}, strides[] = {0, 0};
  Variable variable{"w", TensorView(w.data(), 6), {}, {}, {}};
  variable.value.rank = 2;
  variable.value.shape = shape;
  TensorView gradient(&g, 6);
  gradient.rank = 2;
  gradient.shape = shape;
  gradient.strides_bytes = strides;
  Plan plan({variable});
  AnyRule rule = SGD{};
  plan.step(rule, {}, 1.0, 0, {&gradient, 1});
  EXPECT_EQ(w, std::vector<float>(6, 0.75f));
}

TEST(Plan, FollowsAGradientFromStepToStep) {
  // Another place, another type, another layout, and back: what was remembered must not be used.
  std::vector<float> w(4, 0.0f), first{1, 2, 3, 4}, second{10, 20, 30, 40};
  std::vector<double> third{100, 200, 300, 400};
  const std::int64_t reversed = -4, size = 4;
  TensorView backwards(second.data() + 3, 4);
  backwards.shape = &size;
  backwards.strides_bytes = &reversed;
  Plan plan({{"w", TensorView(w.data(), 4), {}, {}, {}}});
  AnyRule rule = SGD{};
  const auto step = [&](const TensorView& gradient) {
    std::fill(w.begin(), w.end(), 0.0f);
    plan.step(rule, {}, -1.0, 0, {&gradient, 1});
    return w;
  };
  for (int repeat = 0; repeat < 2; ++repeat) {
    EXPECT_EQ(step(TensorView(first.data(), 4)), first);
    EXPECT_EQ(step(TensorView(second.data(), 4)), second);
    EXPECT_EQ(step(TensorView(third.data(), 4)), (std::vector<float>{100, 200, 300, 400}));
    EXPECT_EQ(step(backwards), (std::vector<float>{40, 30, 20, 10}));
    EXPECT_EQ(step(backwards), (std::vector<float>{40, 30, 20, 10}));
  }
}

TEST(Plan, CopiesWhatViewsPointTo) {
  std::vector<float> w(6, 1.0f), g(6, 1.0f);
  std::optional<Plan> plan;
  {
    auto shape = std::make_unique<std::int64_t[]>(2);
    shape[0] = 2;
    shape[1] = 3;
    Variable variable{"w", TensorView(w.data(), 6), {}, {}, {}};
    variable.value.rank = 2;
    variable.value.shape = shape.get();
    plan.emplace(std::vector{variable});
    shape[0] = shape[1] = 99;
  }
  const std::int64_t shape[] = {2, 3};
  TensorView gradient(g.data(), 6);
  gradient.rank = 2;
  gradient.shape = shape;
  AnyRule rule = SGD{};
  plan->step(rule, {}, 1.0, 0, {&gradient, 1});
  EXPECT_EQ(w, std::vector<float>(6, 0.0f));
}

TEST(Plan, WorksWithoutVariables) {
  Plan plan(std::vector<Variable>{});
  EXPECT_EQ(plan.size(), 0u);
  AnyRule rule = SGD{};
  EXPECT_EQ(thrown<ArgumentError>([&] { plan.step(rule, {}, 0.1, 0, {}); }),
            "No gradient was given for any variable.");
}

TEST(Plan, CanBeMoved) {
  Model<float> model({10}, SGD{});
  Plan moved = std::move(model.plan());
  EXPECT_EQ(moved.size(), 1u);
  std::vector<float> g(10, 1.0f), before = model.w(0);
  const TensorView gradient(g.data(), 10);
  AnyRule rule = SGD{};
  moved.step(rule, {}, 1.0, 0, {&gradient, 1});
  for (std::size_t i = 0; i < 10; ++i) EXPECT_EQ(model.w(0)[i], before[i] - 1.0f);
}

// ------------------------------------------------------------------------------ floating-point
// mode

#if defined(__x86_64__)

TEST(Plan, KeepsSubnormalsWhereTheCallerFlushesThem) {
  const unsigned before = _mm_getcsr();
  for (const std::size_t size : {std::size_t{10}, std::size_t{3000000}}) {
    const float tiny = std::numeric_limits<float>::denorm_min();
    std::vector<float> w(size, tiny), g(size, -3 * tiny);
    Plan plan({{"w", TensorView(w.data(), static_cast<std::int64_t>(size)), {}, {}, {}}});
    const TensorView gradient(g.data(), static_cast<std::int64_t>(size));
    AnyRule rule = SGD{};
    const unsigned flushing = before | 0x8040;  // flush to zero, and subnormals are zeros
    _mm_setcsr(flushing);
    plan.step(rule, {}, 1.0, 0, {&gradient, 1});
    const unsigned after = _mm_getcsr();
    _mm_setcsr(before);
    EXPECT_EQ(after & 0xffc0u, flushing & 0xffc0u);
    for (const float value : w) ASSERT_EQ(value, 4 * tiny);
  }
}

TEST(Plan, RoundsToNearestWhateverTheCallerRoundsTo) {
  const unsigned before = _mm_getcsr();
  std::vector<float> w(50, 1.0f), g(50, 1.0f);
  Plan plan({{"w", TensorView(w.data(), 50), {}, {}, {}}});
  const TensorView gradient(g.data(), 50);
  AnyRule rule = SGD{};
  _mm_setcsr((before & ~0x6000u) | 0x6000u);  // towards zero
  plan.step(rule, {}, 1e-9, 0, {&gradient, 1});
  _mm_setcsr(before);
  EXPECT_EQ(w, std::vector<float>(50, 1.0f));
}

#endif

}  // namespace
}  // namespace ravine::test
