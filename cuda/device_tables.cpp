#include "device_tables.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "backend.hpp"
#include "kernels.hpp"
#include "ravine/error.hpp"

namespace ravine::cuda {
namespace {

constexpr std::size_t alignment = 256;

/// Places arrays one after the other in memory that is allocated when all are known.
class Places {
 public:
  template <class T>
  std::size_t add(std::size_t count) {
    const std::size_t begin = bytes_;
    bytes_ += (count * sizeof(T) + alignment - 1) / alignment * alignment;
    return begin;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

RowTable row_table(const Row& row) {
  RowTable result{row.w.data,     {},         row.average, row.accumulator, row.size,
                  row.first_tile, row.w.dtype};
  std::copy(std::begin(row.slots), std::end(row.slots), result.slots);
  return result;
}

/// The chunks of the rows of one group.
void add_chunks(std::span<const Row> rows, const Multipliers& multipliers,
                std::vector<ChunkTable>& chunks) {
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (rows[row].multipliers != multipliers) continue;
    const std::int64_t count = (rows[row].size + chunk_elements - 1) / chunk_elements;
    for (std::int64_t index = 0; index < count; ++index) {
      chunks.push_back({static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(index)});
    }
  }
}

}  // namespace

DeviceTables::DeviceTables(std::span<const Row> rows) {
  regroup(rows);
  const auto tiles = static_cast<std::size_t>(
      rows.empty() ? 0 : rows.back().first_tile + (rows.back().size + tile_size - 1) / tile_size);
  const std::size_t mark_words = (rows.size() + 7) / 8;

  Places places;
  const std::size_t row_place = places.add<RowTable>(rows.size());
  const std::size_t gradient_place = places.add<std::uint64_t>(rows.size() + mark_words);
  const std::size_t summed_tile_place = places.add<unsigned>(rows.size());
  const std::size_t summed_row_place = places.add<unsigned>(1);
  const std::size_t progress_place = places.add<Progress>(1);
  const std::size_t received_place = places.add<std::uint64_t>(mark_words);
  // Those of rows without elements stay 0.
  const std::size_t sum_place = places.add<double>(rows.size());
  // Written before it is read, all that follows.
  const std::size_t filled = places.bytes();
  const std::size_t rate_place = places.add<double>(max_learning_rates);
  const std::size_t tile_place = places.add<double>(tiles);
  const std::size_t factor_place = places.add<double>(rows.size());

  std::vector<std::byte> image(filled);
  auto* const row_image = reinterpret_cast<RowTable*>(image.data() + row_place);
  std::ranges::transform(rows, row_image, row_table);
  memory_.reset(runtime::allocate(places.bytes()));
  runtime::copy_to_device(memory_.get(), image.data(), image.size());

  auto* const base = static_cast<std::byte*>(memory_.get());
  tables_.rows = reinterpret_cast<const RowTable*>(base + row_place);
  tables_.gradients = reinterpret_cast<const void**>(base + gradient_place);
  tables_.marks = reinterpret_cast<Marks*>(base + gradient_place + rows.size() * sizeof(void*));
  tables_.tiles = reinterpret_cast<double*>(base + tile_place);
  tables_.sums = reinterpret_cast<double*>(base + sum_place);
  tables_.clip_factors = reinterpret_cast<double*>(base + factor_place);
  tables_.rates = reinterpret_cast<double*>(base + rate_place);
  tables_.summed_tiles = reinterpret_cast<unsigned*>(base + summed_tile_place);
  tables_.summed_rows = reinterpret_cast<unsigned*>(base + summed_row_place);
  tables_.received = reinterpret_cast<std::uint8_t*>(base + received_place);
  tables_.progress = reinterpret_cast<Progress*>(base + progress_place);
  tables_.row_count = static_cast<std::uint32_t>(rows.size());
  tables_.filled_rows = static_cast<std::uint32_t>(
      std::ranges::count_if(rows, [](const Row& row) { return row.size > 0; }));
  sent_.resize(rows.size() + mark_words);
  next_.resize(sent_.size());
}

void DeviceTables::regroup(std::span<const Row> rows) {
  std::vector<ChunkTable> chunks;
  std::vector<GroupTable> groups;
  for (const Multipliers& multipliers : distinct_multipliers(rows)) {
    const std::size_t first = chunks.size();
    add_chunks(rows, multipliers, chunks);
    groups.push_back({multipliers, static_cast<std::uint32_t>(first),
                      static_cast<std::uint32_t>(chunks.size() - first)});
  }
  if (rows.size() >> 31 != 0 || chunks.size() >> 31 != 0) {
    throw ArgumentError("There are more than 2**31 variables, or pieces of them.");
  }

  Places places;
  const std::size_t chunk_place = places.add<ChunkTable>(chunks.size());
  const std::size_t group_place = places.add<GroupTable>(groups.size());
  const std::size_t filled = places.bytes();
  const std::size_t numbers_place = places.add<Numbers>(groups.size());
  std::vector<std::byte> image(filled);
  std::ranges::copy(chunks, reinterpret_cast<ChunkTable*>(image.data() + chunk_place));
  std::ranges::copy(groups, reinterpret_cast<GroupTable*>(image.data() + group_place));
  std::unique_ptr<void, Release> memory(runtime::allocate(places.bytes()));
  runtime::copy_to_device(memory.get(), image.data(), image.size());

  groups_memory_ = std::move(memory);
  groups_ = std::move(groups);
  auto* const base = static_cast<std::byte*>(groups_memory_.get());
  tables_.chunks = reinterpret_cast<const ChunkTable*>(base + chunk_place);
  tables_.groups = reinterpret_cast<const GroupTable*>(base + group_place);
  tables_.numbers = reinterpret_cast<Numbers*>(base + numbers_place);
  tables_.chunk_count = static_cast<std::uint32_t>(chunks.size());
  tables_.group_count = static_cast<std::uint32_t>(groups_.size());
}

void DeviceTables::take(std::span<const Row> rows) {
  static_assert(sizeof(void*) == sizeof(std::uint64_t));
  auto* const marks = reinterpret_cast<std::byte*>(next_.data() + rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    // Axes are those of the zeros that stand for a gradient (`Binding::bind_zeros`): no other array
    // comes here with gaps.
    const bool is_array = row.updates && row.g.axis_count == 0;
    next_[i] = is_array ? reinterpret_cast<std::uintptr_t>(row.g.data) : 0;
    const Marks mark{static_cast<std::uint8_t>(row.updates ? row.g.dtype : row.w.dtype),
                     row.updates, row.decays};
    std::memcpy(marks + i, &mark, 1);
  }
  is_sent_ = false;
}

void DeviceTables::send(bool all, Stream stream) {
  if (is_sent_ && !all) return;
  const auto differs = [&](std::size_t begin, std::size_t end) {
    return all || !is_known_ ||
           !std::equal(next_.begin() + static_cast<std::ptrdiff_t>(begin),
                       next_.begin() + static_cast<std::ptrdiff_t>(end),
                       sent_.begin() + static_cast<std::ptrdiff_t>(begin));
  };
  const std::size_t rows = tables_.row_count;
  const std::size_t begin = differs(0, rows) ? 0 : rows;
  const std::size_t end = differs(rows, next_.size()) ? next_.size() : rows;
  if (begin < end) {
    is_known_ = false;
    store(tables_.gradients + begin, std::span(next_).subspan(begin, end - begin), stream);
    sent_ = next_;
    is_known_ = true;
  }
  is_sent_ = true;
}

}  // namespace ravine::cuda
