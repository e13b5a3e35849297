// The loop over all chunks of a plan, one block a chunk: an update, and the passes that stand
// alone.
#include <algorithm>
#include <cstring>
#include <type_traits>
#include <variant>

#include "kernels.hpp"
#include "launch.cuh"
#include "update.cuh"

namespace ravine::cuda {
namespace {

/// Arrays of one type that is computed in float32, in an update whose numbers the host knows:
/// rounded, so that they need no register.
template <class Step>
struct PlainArguments {
  Tables tables;
  Step step;
  Average<float> average;
  bool clips_to_norm;
  Progress after;
};

/// Any arrays, any update. `Kernel` is that of a rule, its numbers in double.
template <class Kernel>
struct AnyArguments {
  Tables tables;
  Counting counting;
  bool clips_to_norm;
  // The numbers and what they leave behind, where the host counts.
  Kernel kernel;
  Passes passes;
  Progress after;
};

/// The chunk of this block in an update. After a norm they go from the last to the first: the
/// gradients that it read last may still be in the cache.
__device__ __forceinline__ ChunkTable own_chunk(const Tables& tables, bool clips_to_norm) {
  return tables.chunks[clips_to_norm ? tables.chunk_count - 1 - blockIdx.x : blockIdx.x];
}

/// The chunk updated by `step`, of which what is the variable's own is still to set.
template <class T, class Step, class SomePasses>
__device__ __forceinline__ void update_chunk(const Tables& tables, ChunkTable chunk, Step step,
                                             const Average<T>& average, const SomePasses& passes,
                                             bool clips_to_norm) {
  const RowTable& row = tables.rows[chunk.row];
  const Marks marks = tables.marks[chunk.row];
  if (clips_to_norm) step.clip.factor = T(tables.clip_factors[chunk.row]);
  if (!marks.decays) step.decay.decay = T(0);
  const std::int64_t begin = chunk.index * chunk_elements;
  const std::int64_t left = row.size - begin;
  ChunkUpdate<T, SomePasses, Step>(step, average, passes, row, tables.gradients[chunk.row], marks,
                                   begin)
      .run(static_cast<int>(left < chunk_elements ? left : chunk_elements));
}

/// Blocks that share a multiprocessor, at least. With four a thread has 64 registers, with
/// three 80.
template <DType dtype, bool averages, class Step>
constexpr int min_blocks = decltype(Step::rule)::slot_count + averages <= 3 ? 1
                           : dtype == DType::float32                        ? 4
                                                                            : 3;

/// One block a chunk.
template <DType dtype, bool averages, class Step>
__global__ void __launch_bounds__(block_threads, min_blocks<dtype, averages, Step>)
    update_plain(const PlainArguments<Step> arguments) {
  const Tables& tables = arguments.tables;
  if (blockIdx.x == 0 && threadIdx.x == 0) *tables.progress = arguments.after;
  if (blockIdx.x >= tables.chunk_count) return;
  update_chunk<float>(tables, own_chunk(tables, arguments.clips_to_norm), arguments.step,
                      arguments.average, PlainPasses<dtype, averages>{}, arguments.clips_to_norm);
}

/// Calls `use` with that kernel for arrays of these types.
template <class Step, class Use>
void with_plain_update(ArrayTypes types, bool averages, const Use& use) {
  const auto of = [&]<DType dtype>() {
    use(averages ? update_plain<dtype, true, Step> : update_plain<dtype, false, Step>);
  };
  if (types == ArrayTypes::float32) of.template operator()<DType::float32>();
  if (types == ArrayTypes::float16) of.template operator()<DType::float16>();
  if (types == ArrayTypes::bfloat16) of.template operator()<DType::bfloat16>();
}

/// Calls `visit(row, number of the row, element, T{})` for the elements of the chunk of this block.
template <class Visit>
__device__ __forceinline__ void visit_chunk(const Tables& tables, const Visit& visit) {
  const ChunkTable chunk = tables.chunks[blockIdx.x];
  const RowTable& row = tables.rows[chunk.row];
  const std::int64_t begin = chunk.index * chunk_elements;
  const std::int64_t end = row.size < begin + chunk_elements ? row.size : begin + chunk_elements;
  for (std::int64_t i = begin + threadIdx.x; i < end; i += block_threads) {
    if (row.dtype == DType::float64) {
      visit(row, chunk.row, i, double{});
    } else {
      visit(row, chunk.row, i, float{});
    }
  }
}

__device__ void accumulate_chunk(const Tables& tables, double gradient_scale) {
  visit_chunk(tables, [&]<class T>(const RowTable& row, std::uint32_t index, std::int64_t i, T) {
    const Marks marks = tables.marks[index];
    if (!marks.updates) return;
    const Unscale<T> unscale{T(gradient_scale)};
    const auto dtype = static_cast<DType>(marks.dtype);
    const auto g = decode<T, 1>(dtype, fetch<1>(dtype, tables.gradients[index], i));
    auto sum = load<T, 1>(row.accumulator, i);
    sum.at[0] += unscale(g.at[0]);
    store(row.accumulator, i, sum);
  });
}

struct PassArguments {
  Tables tables;
  double gradient_scale;
};

__global__ void __launch_bounds__(block_threads) accumulate_chunks(const PassArguments arguments) {
  accumulate_chunk(arguments.tables, arguments.gradient_scale);
}

__global__ void __launch_bounds__(block_threads) overwrite_chunks(const PassArguments arguments) {
  const Tables& tables = arguments.tables;
  visit_chunk(tables, [&]<class T>(const RowTable& row, std::uint32_t index, std::int64_t i, T) {
    if (!tables.marks[index].updates) return;
    auto average = load<T, 1>(row.average, i);
    encode(row.dtype, row.w, i, average);
  });
}

/// One block a chunk. `T` are the arithmetic types of the variables: one, or float and double.
template <class Kernel, class... T>
__global__ void __launch_bounds__(block_threads) update_any(const AnyArguments<Kernel> arguments) {
  const Tables& tables = arguments.tables;
  const bool on_host = arguments.counting == Counting::on_host;
  if (on_host && blockIdx.x == 0 && threadIdx.x == 0) *tables.progress = arguments.after;
  if (blockIdx.x >= tables.chunk_count) return;
  const Kernel& kernel =
      on_host ? arguments.kernel : *reinterpret_cast<const Kernel*>(tables.numbers->kernel);
  const Passes& passes = on_host ? arguments.passes : tables.numbers->passes;
  const Action action = on_host ? Action::update : tables.numbers->action;
  if (action == Action::skip) return;
  if (action == Action::accumulate) return accumulate_chunk(tables, passes.gradient_scale);
  const ChunkTable chunk = own_chunk(tables, arguments.clips_to_norm);
  const auto update = [&]<class U>(U) {
    update_chunk<U>(tables, chunk, make_step<U>(kernel, passes, 1.0, true), Average<U>(passes),
                    AllPasses{passes}, arguments.clips_to_norm);
  };
  if constexpr (sizeof...(T) == 1) {
    update(T{}...);
  } else if (tables.rows[chunk.row].dtype == DType::float64) {
    update(double{});
  } else {
    update(float{});
  }
}

template <class Kernel>
using Float32Step = decltype(make_step<float>(std::declval<Kernel>(), Passes{}, 1.0, true));

/// Whether the passes are those of `PlainPasses`.
bool is_plain(const Passes& passes) {
  return passes.accumulated == 1 &&
         (!passes.averages || (!passes.average_starts && !passes.overwrites));
}

/// What the update of a group has of its tables.
Tables part_of(const Tables& tables, std::span<const GroupTable> groups, std::size_t index) {
  Tables part = tables;
  part.chunks += groups[index].first_chunk;
  part.chunk_count = groups[index].chunk_count;
  part.numbers += index;
  return part;
}

/// The update of one group. `after` is what it leaves, but for the state of the rule.
void update_group(const Tables& tables, ArrayTypes types, Counting counting,
                  const AnyRule& any_rule, const Passes& passes, double learning_rate,
                  std::int64_t t, Progress after, bool clips_to_norm, Stream stream) {
  // A block also where there is no element: it writes the progress.
  const std::int64_t blocks = std::max(tables.chunk_count, 1u);
  const auto with_kernel = [&]<class Kernel>(const Kernel& kernel) {
    static_assert(sizeof(Kernel) <= sizeof(Numbers::kernel));
    if (is_one_type(types) && counting == Counting::on_host && is_plain(passes)) {
      const PlainArguments<Float32Step<Kernel>> arguments{
          tables, make_step<float>(kernel, passes, 1.0, true), Average<float>(passes),
          clips_to_norm, after};
      return with_plain_update<Float32Step<Kernel>>(types, passes.averages, [&](auto update) {
        launch(update, blocks, block_threads, stream, arguments);
      });
    }
    const AnyArguments<Kernel> arguments{tables, counting, clips_to_norm, kernel, passes, after};
    const auto update = types == ArrayTypes::mixed              ? update_any<Kernel, float, double>
                        : types == ArrayTypes::double_precision ? update_any<Kernel, double>
                                                                : update_any<Kernel, float>;
    launch(update, blocks, block_threads, stream, arguments);
  };
  std::visit(
      [&](const auto& rule) {
        static_assert(sizeof(rule) <= sizeof(Progress::rule));
        std::memcpy(after.rule, &rule, sizeof rule);
        rule.visit_kernel(learning_rate, t, with_kernel);
      },
      any_rule);
}

}  // namespace

void update(const Tables& tables, std::span<const GroupTable> groups, ArrayTypes types,
            Counting counting, const AnyRule& rule, const Passes& passes, double learning_rate,
            std::int64_t t, std::int64_t iteration, bool clips_to_norm, Stream stream) {
  Progress after{};
  after.learning_rate = learning_rate;
  after.iteration = iteration + 1;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (i > 0 && groups[i].chunk_count == 0) continue;
    const Multipliers& multipliers = groups[i].multipliers;
    Passes own = passes;
    own.move_to(learning_rate, t, multipliers);
    update_group(part_of(tables, groups, i), types, counting, rule, own,
                 learning_rate * multipliers.learning_rate, t, after, clips_to_norm, stream);
  }
}

void load_kernels(const AnyRule& any_rule) {
  const auto load_updates = []<class Kernel>(const Kernel&) {
    for (const ArrayTypes types :
         {ArrayTypes::float32, ArrayTypes::float16, ArrayTypes::bfloat16}) {
      for (const bool averages : {false, true}) {
        with_plain_update<Float32Step<Kernel>>(types, averages, [](auto update) { load(update); });
      }
    }
    load(update_any<Kernel, float>);
    load(update_any<Kernel, double>);
    load(update_any<Kernel, float, double>);
  };
  std::visit([&](const auto& rule) { rule.visit_kernel(0.0, 1, load_updates); }, any_rule);
  load(accumulate_chunks);
  load(overwrite_chunks);
  load_norm_kernels(any_rule);
  load_store_kernels();
}

void accumulate(const Tables& tables, const Passes& passes, Stream stream) {
  launch(accumulate_chunks, tables.chunk_count, block_threads, stream,
         {tables, passes.gradient_scale});
}

void overwrite(const Tables& tables, Stream stream) {
  launch(overwrite_chunks, tables.chunk_count, block_threads, stream, {tables, 1.0});
}

}  // namespace ravine::cuda
