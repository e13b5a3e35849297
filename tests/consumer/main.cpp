// Fits a line to points; exit code 1 if it does not find it.
#include <cmath>
#include <cstdio>

#include <ravine/ravine.hpp>

int main() try {
  float line[] = {0, 0};                     // what is trained: slope and offset
  float momentum[2] = {}, velocity[2] = {};  // the slots of Nadam
  ravine::Plan plan(
      {{.name = "line", .value = {line, 2}, .slots = {{momentum, 2}, {velocity, 2}}}});
  ravine::AnyRule rule = ravine::Nadam{.beta_1 = 0.9};
  const ravine::Options options{.global_clipnorm = 1.0};

  for (int iteration = 0; iteration < 500; ++iteration) {
    float gradient[2] = {};
    for (int i = 0; i < 100; ++i) {
      const float x = static_cast<float>(i) / 50 - 1, y = 3 * x - 0.5f;
      const float error = line[0] * x + line[1] - y;
      gradient[0] += error * x / 100;
      gradient[1] += error / 100;
    }
    const ravine::TensorView gradients[] = {{gradient, 2}};
    plan.step(rule, options, 0.05, iteration, gradients);
  }

  std::printf("slope %.3f, offset %.3f\n", line[0], line[1]);
  return std::abs(line[0] - 3) < 0.01 && std::abs(line[1] + 0.5) < 0.01 ? 0 : 1;
} catch (const ravine::Error& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
