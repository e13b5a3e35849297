// What docs/cpp.md shows, as one program; exit code 1 if it is not so.
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include <ravine/ravine.hpp>

namespace {

int failures = 0;

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s\n", what);
  ++failures;
}

void show_views() {
  std::vector<float> values(6);
  std::vector<std::uint16_t> words(6);
  const std::int64_t shape[] = {2, 3}, strides_bytes[] = {4, 8};

  ravine::TensorView flat{values.data(), 6};                         // float or double
  ravine::TensorView half{words.data(), 6, ravine::DType::float16};  // any type, as raw words
  ravine::TensorView matrix = flat;                                  // 2 by 3, column by column
  matrix.rank = 2;
  matrix.shape = shape;
  matrix.strides_bytes = strides_bytes;

  ravine::Plan plan({{.name = "kernel", .value = matrix}, {.name = "half", .value = half}});
  ravine::AnyRule rule = ravine::SGD{};
  std::vector<double> g{1, 2, 3, 4, 5, 6};
  ravine::TensorView gradient{g.data(), 6};
  gradient.rank = 2;
  gradient.shape = shape;
  const ravine::TensorView gradients[] = {gradient, {}};
  plan.step(rule, {}, 1.0, 0, gradients);
  expect(values == std::vector<float>{-1, -4, -2, -5, -3, -6}, "strides");
  expect(words == std::vector<std::uint16_t>(6), "a missing gradient");
}

void show_state() {
  std::vector<float> w(100, 1.0f), g(100, 0.1f);

  ravine::AnyRule rule = ravine::RMSprop{.rho = 0.95, .momentum = 0.9};
  const auto names = std::visit([](const auto& each) { return each.slots(); }, rule);
  std::vector<std::vector<float>> slots(names.size(), std::vector<float>(w.size()));
  std::vector<float> average(w.size()), accumulator(w.size());

  ravine::Variable variable{.name = "w", .value = {w.data(), 100}};
  for (auto& slot : slots) variable.slots.emplace_back(slot.data(), 100);
  variable.average = {average.data(), 100};          // only for use_ema
  variable.accumulator = {accumulator.data(), 100};  // only for gradient_accumulation_steps
  ravine::Plan plan({variable});

  const ravine::Options options{
      .clipvalue = 0.5, .use_ema = true, .gradient_accumulation_steps = 2};
  const ravine::TensorView gradients[] = {{g.data(), 100}};
  int updates = 0;
  for (int iteration = 0; iteration < 10; ++iteration) {
    const auto report = plan.step(rule, options, 0.01, iteration, gradients);
    if (report.updated) ++updates;  // in every second call
  }
  plan.overwrite_with_averages();
  expect(updates == 5, "updates");
  expect(names.size() == 2 && *names.begin() == "velocity", "names of slots");
  expect(w == average && w[0] < 1, "averages");
}

void show_loss_scale() {
  std::vector<float> w(4, 1.0f);
  ravine::Plan plan({{.name = "w", .value = {w.data(), 4}}});
  ravine::AnyRule rule = ravine::SGD{};
  std::int64_t iteration = 0;
  const float infinity = std::numeric_limits<float>::infinity();

  ravine::LossScale loss_scale;
  for (int call = 0; call < 5; ++call) {
    std::vector<float> g(4, call == 2 ? infinity : 0.1f * loss_scale.dynamic_scale);
    const ravine::TensorView gradients[] = {{g.data(), 4}};
    const auto report = plan.step(rule, {}, 0.5, iteration, gradients, nullptr, &loss_scale);
    if (!report.skipped) ++iteration;  // a step that was left out does not count
  }
  expect(iteration == 4 && loss_scale.dynamic_scale == 16384, "the scale after one overflow");
}

void show_errors() {
  std::string text;
  try {
    ravine::Options{.clipnorm = 1.0, .clipvalue = 1.0}.check();
  } catch (const ravine::ArgumentError& error) {
    text = error.what();
  }
  expect(!text.empty(), "an error");
  try {
    ravine::set_num_threads(0);
  } catch (const ravine::Error& error) {
    text = error.what();
  }
  expect(text == "The number of threads must be at least 1. Received: 0.", "its text");
}

void show_machine() {
  ravine::set_num_threads(2);
  std::printf("ravine %s: %s, %d threads, CUDA %s\n", RAVINE_VERSION, ravine::instruction_set(),
              ravine::num_threads(), ravine::has_cuda() ? "built in" : "left out");
}

}  // namespace

int main() {
  show_views();
  show_state();
  show_loss_scale();
  show_errors();
  show_machine();
  return failures == 0 ? 0 : 1;
}
