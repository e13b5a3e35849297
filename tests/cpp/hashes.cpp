// What every rule makes of fixed numbers with every option, for variables of every type, as hashes
// of all bits: the same with every compiler, instruction set and processor. Only the public API is
// used.
//
// ravine_hashes        prints them; so tests/cpp/hashes.txt was made
// ravine_hashes FILE   compares them with those of a file, and prints lines that differ
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <fstream>
#include <iostream>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ravine/ravine.hpp"

namespace ravine::test {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are made of their bytes");

/// What the test driver takes for "skipped".
constexpr int skipped = 77;

constexpr DType dtypes[] = {DType::float32, DType::float64, DType::float16, DType::bfloat16};

/// Tails, tiles of a norm, more than one chunk.
constexpr std::int64_t sizes[] = {1, 37, 2100, 17000};
constexpr int variable_count = 4;
constexpr Multipliers multipliers[variable_count] = {{}, {0.3, 1.0}, {}, {1.0, 3.0}};
constexpr int step_count = 4;

const std::vector<std::pair<std::string, AnyRule>> rules{
    {"sgd", SGD{}},
    {"sgd_momentum", SGD{.momentum = 0.9}},
    {"sgd_nesterov", SGD{.momentum = 0.9, .nesterov = true}},
    {"rmsprop", RMSprop{}},
    {"rmsprop_momentum", RMSprop{.momentum = 0.9}},
    {"rmsprop_centered", RMSprop{.centered = true}},
    {"rmsprop_both", RMSprop{.momentum = 0.9, .centered = true}},
    {"nadam", Nadam{}},
    {"adam", Adam{}},
    {"adam_amsgrad", Adam{.amsgrad = true}},
    {"hand_over", HandedOver{}},
    {"take_back", HandedOver{.takes_back = true}},
};

struct Case {
  std::string name;
  Options options;
  bool has_loss_scale = false;
  bool has_multipliers = false;
};

const std::vector<Case> cases{
    {"plain", {}},
    {"weight_decay", {.weight_decay = 0.1}},
    {"clipnorm", {.clipnorm = 1.0}},
    {"clipvalue", {.clipvalue = 0.3}},
    {"global_clipnorm", {.global_clipnorm = 1.0}},
    {"ema", {.use_ema = true, .ema_momentum = 0.9}},
    {"ema_overwrite", {.use_ema = true, .ema_momentum = 0.9, .ema_overwrite_frequency = 2}},
    {"loss_scale_factor", {.loss_scale_factor = 3.0}},
    {"loss_scale", {}, true},
    {"multipliers", {.weight_decay = 0.1}, false, true},
    {"accumulation", {.gradient_accumulation_steps = 2}},
    {"all",
     {.weight_decay = 0.1,
      .global_clipnorm = 1.0,
      .use_ema = true,
      .ema_momentum = 0.9,
      .ema_overwrite_frequency = 2,
      .gradient_accumulation_steps = 2},
     true,
     true},
};

/// Random words (Steele et al. 2014, SplitMix64).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t word() {
    std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

struct Format {
  int mantissa, bias, size_bits;
};

constexpr Format format(DType dtype) {
  switch (dtype) {
    case DType::float64:
      return {52, 1023, 64};
    case DType::float32:
      return {23, 127, 32};
    case DType::float16:
      return {10, 15, 16};
    default:
      return {7, 127, 16};
  }
}

class Array {
 public:
  Array(DType dtype, std::int64_t size)
      : dtype_(dtype), size_(size), bytes_(static_cast<std::size_t>(size * size_bytes(dtype))) {}

  /// Numbers between 2^-9 and 8 of either sign, and among them subnormal ones.
  void fill(Random& random) {
    const Format type = format(dtype_);
    for (std::int64_t i = 0; i < size_; ++i) {
      const std::uint64_t word = random.word();
      const int exponent = i % 97 == 5 ? 0 : type.bias - 9 + static_cast<int>((word >> 32) % 12);
      const std::uint64_t mantissa = random.word() >> (64 - type.mantissa);
      set(i, (word & 1) << (type.size_bits - 1) |
                 static_cast<std::uint64_t>(exponent) << type.mantissa | mantissa);
    }
  }

  void set_infinite(std::int64_t index) {
    const Format type = format(dtype_);
    set(index, ((std::uint64_t{1} << (type.size_bits - 1 - type.mantissa)) - 1) << type.mantissa);
  }

  TensorView view() { return {bytes_.data(), size_, dtype_}; }
  const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  void set(std::int64_t index, std::uint64_t bits) {
    const int size = size_bytes(dtype_);
    std::memcpy(bytes_.data() + index * size, &bits, static_cast<std::size_t>(size));
  }

  DType dtype_;
  std::int64_t size_;
  std::vector<std::byte> bytes_;
};

/// Eight bytes at a time (after Fowler, Noll and Vo's FNV-1a).
class Hash {
 public:
  void add(std::span<const std::byte> bytes) {
    for (std::size_t begin = 0; begin < bytes.size(); begin += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + begin, std::min(sizeof word, bytes.size() - begin));
      value_ = (value_ ^ word) * 0x100000001b3u;
      value_ ^= value_ >> 32;
    }
  }
  template <class Number>
  void add_number(Number number) {
    add(std::as_bytes(std::span(&number, 1)));
  }
  std::string text() const {
    char buffer[17];
    std::snprintf(buffer, sizeof buffer, "%016llx", static_cast<unsigned long long>(value_));
    return buffer;
  }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

/// Some steps of a model whose variables are of one type, and whose gradients are of each.
std::string hash_of_steps(AnyRule rule, const Case& with, DType dtype) {
  const std::size_t slot_count =
      std::visit([](const auto& each) { return each.slots().size(); }, rule);
  Random random(7);
  std::vector<Array> arrays, gradients;
  arrays.reserve(variable_count * (3 + max_slots));
  std::vector<Variable> variables;
  for (int k = 0; k < variable_count; ++k) {
    const auto state = [&] {
      return arrays.emplace_back(arithmetic_dtype(dtype), sizes[k]).view();
    };
    Variable variable{"", {}, {}, state(), state()};
    for (std::size_t slot = 0; slot < slot_count; ++slot) variable.slots.push_back(state());
    Array& value = arrays.emplace_back(dtype, sizes[k]);
    value.fill(random);
    variable.value = value.view();
    variables.push_back(variable);
    gradients.emplace_back(dtypes[k], sizes[k]);
  }
  Plan plan(std::move(variables));
  plan.set_decays(1, false);
  if (with.has_multipliers) plan.set_multipliers(multipliers);

  LossScale loss_scale{.dynamic_growth_steps = 2, .dynamic_scale = 4.0f};
  for (int iteration = 0; iteration < step_count; ++iteration) {
    std::vector<TensorView> views;
    for (Array& gradient : gradients) {
      gradient.fill(random);
      views.push_back(gradient.view());
    }
    if (with.has_loss_scale && iteration == 1) gradients[2].set_infinite(1234);
    if (iteration == 2) views[0] = {};
    plan.step(rule, with.options, 0.01 * (iteration + 1), iteration, views, nullptr,
              with.has_loss_scale ? &loss_scale : nullptr);
  }

  Hash hash;
  for (const Array& array : arrays) hash.add(array.bytes());
  if (const Nadam* const nadam = std::get_if<Nadam>(&rule)) {
    hash.add_number(nadam->momentum_product);
  }
  hash.add_number(loss_scale.dynamic_scale);
  return hash.text();
}

std::vector<std::string> lines() {
  std::vector<std::string> result{
      "# rule option: variables of float32, float64, float16, bfloat16"};
  for (const auto& [name, rule] : rules) {
    for (const Case& with : cases) {
      std::string line = name + " " + with.name + ":";
      for (const DType dtype : dtypes) line.append(" ").append(hash_of_steps(rule, with, dtype));
      result.push_back(line);
    }
  }
  return result;
}

/// How many lines of a file differ from what is computed here; prints them.
int differences(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  int count = 0;
  for (const std::string& computed : lines()) {
    std::string expected;
    std::getline(file, expected);
    if (computed == expected) continue;
    ++count;
    std::cout << "- " << expected << "\n+ " << computed << "\n";
  }
  for (std::string more; std::getline(file, more); ++count) std::cout << "- " << more << "\n";
  return count;
}

int main_of(int argument_count, char** arguments) {
  try {
    instruction_set();
  } catch (const UnavailableError& error) {
    std::cout << error.what() << "\n";
    return skipped;
  }
  if (argument_count < 2) {
    for (const std::string& line : lines()) std::cout << line << "\n";
    return 0;
  }
  const int count = differences(arguments[1]);
  std::cout << count << " lines differ, with " << instruction_set() << "\n";
  return count == 0 ? 0 : 1;
}

}  // namespace
}  // namespace ravine::test

int main(int argument_count, char** arguments) {
  try {
    return ravine::test::main_of(argument_count, arguments);
  } catch (const std::exception& error) {
    std::cerr << "ravine_hashes: " << error.what() << "\n";
    return 1;
  }
}
