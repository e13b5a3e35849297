// What a formula asks of the divider is counted, and done.
#include "cpu/divider.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>
#include <variant>

#include "backends.hpp"
#include "ravine/rules.hpp"

namespace ravine::test {
namespace {

std::pair<int, int> divisions_and_roots(const AnyRule& any_rule) {
  cpu::Operations found;
  const auto count = [&](const auto& kernel) { found = cpu::operations_of(kernel); };
  std::visit([&](const auto& rule) { rule.visit_kernel(0.1, 1, count); }, any_rule);
  return {found.divisions, found.roots};
}

TEST(Divider, CountsWhatFormulasAskOfIt) {
  const std::pair none{0, 0}, one{1, 1};
  EXPECT_EQ(divisions_and_roots(SGD{}), none);
  EXPECT_EQ(divisions_and_roots(SGD{.momentum = 0.9}), none);
  EXPECT_EQ(divisions_and_roots(SGD{.momentum = 0.9, .nesterov = true}), none);
  EXPECT_EQ(divisions_and_roots(HandedOver{}), none);
  EXPECT_EQ(divisions_and_roots(HandedOver{.takes_back = true}), none);
  EXPECT_EQ(divisions_and_roots(Nadam{}), one);
  for (const bool either : {false, true}) {
    EXPECT_EQ(divisions_and_roots(Adam{.amsgrad = either}), one);
    EXPECT_EQ(divisions_and_roots(RMSprop{.centered = either}), one);
    EXPECT_EQ(divisions_and_roots(RMSprop{.momentum = 0.9, .centered = either}), one);
  }
}

/// w = sqrt(w) / (g / 3)
struct Other {
  template <class T>
  struct Kernel {
    static constexpr int slot_count = 1;
    T three;

    void operator()(T& w, T g, T& slot) const {
      using std::sqrt;
      slot += three / three;  // of numbers alone: once, not for each element
      w = sqrt(w) / (g / three);
    }

    template <class U>
    Kernel<U> rounded() const {
      return {U(three)};
    }
  };
};

TEST(Divider, CountsEachOperationOfAnElement) {
  const cpu::Operations found = cpu::operations_of(Other::Kernel<double>{3});
  EXPECT_EQ(found.divisions, 2);
  EXPECT_EQ(found.roots, 1);
}

TEST(Divider, DividesAndTakesRootsOfAllItsNumbers) {
  const auto check = [&]<class T>(T) {
    constexpr std::int64_t width = cpu::Numbers<T>::width, rows = cpu::Numbers<T>::rows;
    const auto& [dividend, square] = cpu::operands<T>;
    cpu::Numbers<T> both, division, root;
    cpu::divide<true, true>(rows * width, cpu::operands<T>, both);
    cpu::divide<true, false>((rows - 1) * width + 1, cpu::operands<T>, division);
    cpu::divide<false, true>(3 * rows * width - 1, cpu::operands<T>, root);
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t i = 0; i < width; ++i) {
        const T x = dividend.of[row][i], y = square.of[row][i];
        ASSERT_EQ(root.of[row][i], std::sqrt(y));
        ASSERT_EQ(division.of[row][i], x / y);
        ASSERT_EQ(both.of[row][i], x / std::sqrt(y));
      }
    }
  };
  check(float{});
  check(double{});
}

TEST(Divider, IsPartOfEachBackend) {
  Row row;
  row.size = 1000;
  for (const DType dtype : {DType::float32, DType::float64, DType::bfloat16}) {
    row.w.dtype = dtype;
    const Job job({row});  // without any array: none is read
    for (const cpu::Backend* const backend : backends()) {
      backend->divide(Nadam{}, job.work());
      backend->divide(SGD{}, job.work());
    }
  }
}

}  // namespace
}  // namespace ravine::test
