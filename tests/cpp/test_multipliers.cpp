// Multipliers of the learning rate and the weight decay of single variables.
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "guarded.hpp"
#include "model.hpp"
#include "ravine/plan.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

template <class T>
class MultipliersOf : public testing::Test {};

using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(MultipliersOf, Types);

const std::vector<std::size_t> sizes{1, 33, 5000, 0, 17, 20000};
const std::vector<Multipliers> several{{1, 1}, {0.1, 1}, {1, 3}, {0, 0}, {0.1, 1}, {-2, 0}};

std::vector<Options> all_options() {
  std::vector<Options> result(1);
  result.emplace_back().weight_decay = 0.1;
  Options& all = result.emplace_back();
  all.weight_decay = 0.1;
  all.global_clipnorm = 3.0;
  all.use_ema = true;
  all.ema_overwrite_frequency = 2;
  all.loss_scale_factor = 3.0;
  all.gradient_accumulation_steps = 2;
  result.emplace_back().clipnorm = 3.0;
  return result;
}

TYPED_TEST(MultipliersOf, EqualPlainStepForEveryRule) {
  for (const AnyRule& rule : rules) {
    for (const Options& options : all_options()) {
      Model<TypeParam> model(sizes, rule);
      model.set_decays(2, false);
      model.set_multipliers(several);
      for (int iteration = 0; iteration < 4; ++iteration) {
        model.step(options, 0.01 * (iteration + 1), iteration, {4});
      }
      model.expect_equal();
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TYPED_TEST(MultipliersOf, MayChangeBetweenSteps) {
  Options options;
  options.weight_decay = 0.1;
  options.global_clipnorm = 1.0;
  Model<TypeParam> model(sizes, Nadam{});
  model.step(options, 0.1, 0);
  model.set_multipliers(several);
  model.step(options, 0.1, 1);
  model.set_multipliers({{2, 1}, {2, 1}, {2, 1}, {2, 1}, {2, 1}, {2, 1}});
  model.step(options, 0.1, 2, {0});
  model.set_multipliers(std::vector<Multipliers>(6));
  model.step(options, 0.1, 3);
  model.expect_equal();
}

TYPED_TEST(MultipliersOf, GiveTheBitsOfAnOptimizerWithTheProducts) {
  Options options;
  options.weight_decay = 0.3;
  Options product;
  product.weight_decay = 0.3 * 0.7;
  Model<TypeParam> one({4000, 30}, RMSprop{}), other({4000, 30}, RMSprop{});
  one.set_multipliers({{0.1, 0.7}, {0.1, 0.7}});
  for (int iteration = 0; iteration < 3; ++iteration) {
    one.step(options, 0.3, iteration);
    other.step(product, 0.3 * 0.1, iteration);
  }
  EXPECT_TRUE(same_bits(one.w(0), other.w(0)));
  EXPECT_TRUE(same_bits(one.w(1), other.w(1)));
}

TEST(PlanOfMultipliers, RefusesOtherNumbersAndChangesNothing) {
  Model<float> model({40, 40}, SGD{});
  model.set_multipliers({{0.5, 1}, {1, 2}});
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const auto message = [&](const std::vector<Multipliers>& multipliers) {
    return thrown<ArgumentError>([&] { model.plan().set_multipliers(multipliers); });
  };
  EXPECT_EQ(message({{1, 1}}), "There must be multipliers for each variable: 2. Received: 1.");
  EXPECT_EQ(message({{2, 2}, {infinity, 1}}),
            "The multiplier of learning_rate must be a finite number. Received: inf.");
  EXPECT_EQ(message({{2, 2}, {1, -infinity}}),
            "The multiplier of weight_decay must be a finite number. Received: -inf.");
  Options options;
  options.weight_decay = 0.1;
  model.step(options, 0.5, 0);
  model.expect_equal();
}

TEST(PlanOfMultipliers, RefusesARateThatIsNotFiniteWithThem) {
  Model<float> model({4}, SGD{});
  model.set_multipliers({{1e300, 1}});
  AnyRule rule = SGD{};
  std::vector<float> g(4, 1);
  const TensorView gradients[] = {Model<float>::view(g)};
  const std::vector<float> before = model.w(0);
  EXPECT_EQ(thrown<ArgumentError>([&] { model.plan().step(rule, {}, 1e10, 0, gradients); }),
            "learning_rate must be finite, also times the multiplier of each variable.");
  EXPECT_EQ(model.w(0), before);
}

}  // namespace
}  // namespace ravine::test
