// An array with a known pattern on both sides: a loop that writes beyond its ends is found out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

namespace ravine::test {

/// `size` elements that begin `shift` elements behind a multiple of 64 bytes.
template <class T>
class Guarded {
 public:
  Guarded(std::size_t size, std::size_t shift)
      : size_(size), before_(guard_bytes + shift * sizeof(T)) {
    bytes_ = before_ + size * sizeof(T) + guard_bytes;
    memory_.reset(static_cast<std::byte*>(::operator new(bytes_, std::align_val_t{64})));
    std::memset(memory_.get(), pattern, bytes_);
    std::memset(data(), 0, size * sizeof(T));
  }

  Guarded(const std::vector<T>& values, std::size_t shift) : Guarded(values.size(), shift) {
    if (!values.empty()) std::memcpy(data(), values.data(), values.size() * sizeof(T));
  }

  T* data() { return reinterpret_cast<T*>(memory_.get() + before_); }
  const T* data() const { return reinterpret_cast<const T*>(memory_.get() + before_); }
  std::vector<T> values() const { return {data(), data() + size_}; }

  /// Whether nothing was written on either side.
  bool intact() const {
    for (std::size_t i = 0; i < bytes_; ++i) {
      const bool inside = i >= before_ && i < before_ + size_ * sizeof(T);
      if (!inside && memory_[i] != static_cast<std::byte>(pattern)) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t guard_bytes = 128;
  static constexpr unsigned char pattern = 0xa5;

  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, std::align_val_t{64}); }
  };

  std::size_t size_, before_, bytes_ = 0;
  std::unique_ptr<std::byte[], Free> memory_;
};

/// Equality of bits, so that NaN equals itself and zeros differ by their sign.
template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

}  // namespace ravine::test
