// Ranges of options and rules, with the text of each message, and what options mean for an update.
#include "ravine/options.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "ravine/rules.hpp"
#include "thrown.hpp"

namespace ravine::test {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

template <class Checked>
std::string message(const Checked& checked) {
  return thrown<ArgumentError>([&] { checked.check(); });
}

TEST(Options, AcceptsTheDefaults) { EXPECT_EQ(message(Options{}), "(no exception)"); }

TEST(Options, AcceptsTheEndsOfItsRanges) {
  Options options;
  options.weight_decay = -1.0;
  options.clipnorm = std::numeric_limits<double>::denorm_min();
  options.ema_momentum = 1.0;
  options.ema_overwrite_frequency = 1;
  options.gradient_accumulation_steps = 1;
  options.loss_scale_factor = 1e37;
  EXPECT_EQ(message(options), "(no exception)");
  options.ema_momentum = 0.0;
  EXPECT_EQ(message(options), "(no exception)");
}

TEST(Options, SaysWhichNumberIsOutOfRange) {
  Options options;
  options.weight_decay = nan;
  EXPECT_EQ(message(options), "weight_decay must be a finite number. Received: nan.");

  options = {};
  options.clipnorm = 0.0;
  EXPECT_EQ(message(options), "clipnorm must be a finite number above 0. Received: 0.");
  options.clipnorm = infinity;
  EXPECT_EQ(message(options), "clipnorm must be a finite number above 0. Received: inf.");

  options = {};
  options.clipvalue = -0.5;
  EXPECT_EQ(message(options), "clipvalue must be a finite number above 0. Received: -0.5.");

  options = {};
  options.global_clipnorm = nan;
  EXPECT_EQ(message(options), "global_clipnorm must be a finite number above 0. Received: nan.");

  options = {};
  options.ema_momentum = 1.5;
  EXPECT_EQ(message(options), "ema_momentum must be in [0, 1]. Received: 1.5.");
  options.ema_momentum = nan;
  EXPECT_EQ(message(options), "ema_momentum must be in [0, 1]. Received: nan.");

  options = {};
  options.ema_overwrite_frequency = 0;
  EXPECT_EQ(message(options), "ema_overwrite_frequency must be at least 1. Received: 0.");

  options = {};
  options.gradient_accumulation_steps = -3;
  EXPECT_EQ(message(options), "gradient_accumulation_steps must be at least 1. Received: -3.");

  options = {};
  options.loss_scale_factor = 0.0;
  EXPECT_EQ(message(options), "loss_scale_factor must be in [1e-37, 1e+37]. Received: 0.");
}

TEST(Options, AllowsOneWayOfClipping) {
  Options options;
  options.clipnorm = options.clipvalue = 1.0;
  const char* const expected = "Only one of clipnorm, clipvalue and global_clipnorm can be set.";
  EXPECT_EQ(message(options), expected);
  options.clipvalue.reset();
  options.global_clipnorm = 1.0;
  EXPECT_EQ(message(options), expected);
  options.clipnorm.reset();
  EXPECT_EQ(message(options), "(no exception)");
}

TEST(Options, UpdatesAtTheEndOfEachWindow) {
  Options options;
  for (int iteration = 0; iteration < 5; ++iteration) EXPECT_TRUE(options.updates(iteration));
  options.gradient_accumulation_steps = 3;
  for (int iteration = 0; iteration < 12; ++iteration) {
    EXPECT_EQ(options.updates(iteration), iteration % 3 == 2);
  }
}

TEST(Options, BecomeThePassesOfAnUpdate) {
  Options options;
  Passes passes = options.passes(0.1, 7);
  EXPECT_EQ(passes.gradient_scale, 1.0);
  EXPECT_EQ(passes.accumulated, 1);
  EXPECT_EQ(passes.clip_value, infinity);
  EXPECT_EQ(passes.decay, 0.0);
  EXPECT_FALSE(passes.averages);

  options.loss_scale_factor = 8.0;
  options.gradient_accumulation_steps = 2;
  options.clipvalue = 3.0;
  options.weight_decay = 0.5;
  options.use_ema = true;
  options.ema_overwrite_frequency = 2;
  passes = options.passes(0.25, 1);  // the first update
  EXPECT_EQ(passes.gradient_scale, 0.125);
  EXPECT_EQ(passes.accumulated, 2);
  EXPECT_EQ(passes.clip_value, 3.0);
  EXPECT_EQ(passes.decay, 0.125);
  EXPECT_TRUE(passes.averages);
  EXPECT_TRUE(passes.average_starts);
  EXPECT_FALSE(passes.overwrites);
  passes = options.passes(0.25, 3);  // the second
  EXPECT_FALSE(passes.average_starts);
  EXPECT_TRUE(passes.overwrites);
  options.use_ema = false;
  EXPECT_FALSE(options.passes(0.25, 3).overwrites);
}

TEST(Rules, SayWhichNumberIsOutOfRange) {
  EXPECT_EQ(message(SGD{.momentum = 1.0}), "(no exception)");
  EXPECT_EQ(message(SGD{.momentum = 1.25}), "momentum must be in [0, 1]. Received: 1.25.");
  EXPECT_EQ(message(SGD{.momentum = nan}), "momentum must be in [0, 1]. Received: nan.");

  EXPECT_EQ(message(RMSprop{.rho = 1.0}), "rho must be in [0, 1). Received: 1.");
  EXPECT_EQ(message(RMSprop{.momentum = -0.5}), "momentum must be in [0, 1]. Received: -0.5.");
  EXPECT_EQ(message(RMSprop{.epsilon = -1e-07}),
            "epsilon must be a finite number of at least 0. Received: -1e-07.");
  EXPECT_EQ(message(RMSprop{.epsilon = 0.0}), "(no exception)");

  EXPECT_EQ(message(Nadam{.beta_1 = 1.0}), "beta_1 must be in [0, 1). Received: 1.");
  EXPECT_EQ(message(Nadam{.beta_2 = -1.0}), "beta_2 must be in [0, 1). Received: -1.");
  EXPECT_EQ(message(Nadam{.epsilon = infinity}),
            "epsilon must be a finite number of at least 0. Received: inf.");

  EXPECT_EQ(message(Adam{.beta_1 = 1.0}), "beta_1 must be in [0, 1). Received: 1.");
  EXPECT_EQ(message(Adam{.beta_2 = nan}), "beta_2 must be in [0, 1). Received: nan.");
  EXPECT_EQ(message(Adam{.epsilon = -1.0}),
            "epsilon must be a finite number of at least 0. Received: -1.");
  EXPECT_EQ(message(Adam{.beta_1 = 0.0, .beta_2 = 0.0, .epsilon = 0.0}), "(no exception)");
}

std::vector<std::string> slots_of(const AnyRule& any) {
  return std::visit(
      [](const auto& rule) {
        const SlotNames names = rule.slots();
        return std::vector<std::string>(names.begin(), names.end());
      },
      any);
}

TEST(Rules, NameTheirSlotsInTheOrderOfKeras) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(slots_of(SGD{}), Names{});
  EXPECT_EQ(slots_of(SGD{.momentum = 0.9}), Names{"momentum"});
  EXPECT_EQ(slots_of(RMSprop{}), Names{"velocity"});
  EXPECT_EQ(slots_of(RMSprop{.momentum = 0.9}), (Names{"velocity", "momentum"}));
  EXPECT_EQ(slots_of(RMSprop{.centered = true}), (Names{"velocity", "average_gradient"}));
  EXPECT_EQ(slots_of(RMSprop{.momentum = 0.9, .centered = true}),
            (Names{"velocity", "momentum", "average_gradient"}));
  EXPECT_EQ(slots_of(Nadam{}), (Names{"momentum", "velocity"}));
  EXPECT_EQ(slots_of(Adam{}), (Names{"momentum", "velocity"}));
  EXPECT_EQ(slots_of(Adam{.amsgrad = true}), (Names{"momentum", "velocity", "velocity_hat"}));
  EXPECT_EQ(slots_of(HandedOver{}), Names{"gradient"});
  EXPECT_EQ(slots_of(HandedOver{.takes_back = true}), Names{});
}

}  // namespace
}  // namespace ravine::test
