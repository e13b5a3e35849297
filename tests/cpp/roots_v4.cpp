// Compiled for v4 alone, hence without anything that other objects could share.
#include "roots_v4.hpp"

#include "cpu/root.hpp"

namespace ravine::test {

void roots_v4(const float* x, std::int64_t count, float* root) {
  for (std::int64_t i = 0; i < count; i += 16) {
    _mm512_storeu_ps(root + i, cpu::root(_mm512_loadu_ps(x + i)));
  }
}

std::int64_t wrong_roots_v4(std::uint32_t first, std::uint32_t last) {
  std::int64_t wrong = 0;
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (std::int64_t bits = first; bits <= last; bits += 16) {
    const __m512 x =
        _mm512_castsi512_ps(_mm512_add_epi32(_mm512_set1_epi32(static_cast<int>(bits)), lanes));
    const __m512i found = _mm512_castps_si512(cpu::root(x));
    const __m512i expected = _mm512_castps_si512(_mm512_sqrt_ps(x));
    for (auto lane = _mm512_cmpneq_epi32_mask(found, expected); lane != 0; lane &= lane - 1)
      ++wrong;
  }
  return wrong;
}

}  // namespace ravine::test
