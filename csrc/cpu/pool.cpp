// Maximum over the group, and the scatter and gather by its index.
//
// Both memory formats are [outer, slots, inner]: outer is the batch in channels_last (inner: pixels times channels), batch
// times channels otherwise (inner: pixels).

#include "simd.h"
#include "operators.h"

namespace {

using torch::stable::Tensor;

constexpr int64_t kBlock = 512;    // elements whose maxima are kept in the first-level cache
constexpr int64_t kGrain = 32768;  // elements of the map worth a thread

struct Planes {
  int64_t outer, slots, inner;

  Planes(const Tensor& map, bool channels_last)
      : outer(map.size(0)), slots(map.size(2)), inner(map.size(3) * map.size(4)) {
    (channels_last ? inner : outer) *= map.size(1);
  }
};

// body(o, begin, count) for blocks of the inner dimension.
template <typename Body>
void for_each_block(const Planes& planes, const Body& body) {
  const int64_t inner = planes.inner, blocks = (inner + kBlock - 1) / kBlock;
  const int64_t size = std::max<int64_t>(planes.slots * std::min(inner, kBlock), 1);
  parallel_simd(planes.outer * blocks, kGrain / size, [=](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t begin = i % blocks * kBlock;
      body(i / blocks, begin, std::min(kBlock, inner - begin));
    }
  });
}

template <typename T, typename A>
void max_over_slots(const Planes& planes, const T* x, T* value, uint8_t* index) {
  for_each_block(planes, [=](int64_t o, int64_t begin, int64_t count) {
    A best[kBlock];
    int32_t where[kBlock];
    const T* from = x + o * planes.slots * planes.inner + begin;
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) {
      best[j] = static_cast<A>(from[j]);
      where[j] = 0;
    }
    for (int32_t s = 1; s < planes.slots; ++s) {
      from += planes.inner;
#pragma omp simd
      for (int64_t j = 0; j < count; ++j) {
        const A candidate = static_cast<A>(from[j]);
        const bool better = !(candidate <= best[j]) & (best[j] == best[j]);  // the first NaN stays
        best[j] = better ? candidate : best[j];
        where[j] = better ? s : where[j];
      }
    }
    T* to = value + o * planes.inner + begin;
    uint8_t* to_index = index + o * planes.inner + begin;
    for (int64_t j = 0; j < count; ++j) to[j] = static_cast<T>(best[j]);
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) to_index[j] = static_cast<uint8_t>(where[j]);
  });
}

// Bits of a number, which is all that scatter and gather move.
template <typename Bits>
void scatter(const Planes& planes, const Bits* grad, const uint8_t* index, Bits* map) {
  for_each_block(planes, [=](int64_t o, int64_t begin, int64_t count) {
    const Bits* from = grad + o * planes.inner + begin;
    const uint8_t* where = index + o * planes.inner + begin;
    Bits* to = map + o * planes.slots * planes.inner + begin;
    for (int64_t s = 0; s < planes.slots; ++s, to += planes.inner) {
#pragma omp simd
      for (int64_t j = 0; j < count; ++j) to[j] = from[j] & (Bits(0) - Bits(where[j] == s));
    }
  });
}

template <typename Bits>
void gather(const Planes& planes, const Bits* map, const uint8_t* index, Bits* value) {
  for_each_block(planes, [=](int64_t o, int64_t begin, int64_t count) {
    const Bits* from = map + o * planes.slots * planes.inner + begin;
    const uint8_t* where = index + o * planes.inner + begin;
    Bits* to = value + o * planes.inner + begin;
    for (int64_t j = 0; j < count; ++j) to[j] = from[where[j] * planes.inner + j];
  });
}

// Maps [B, C, S, H, W] and planes [B, C, H, W] are dense in the format that channels_last says.
void group_max(const Tensor& x, bool channels_last, const Tensor& value, const Tensor& index) {
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    max_over_slots<T, decltype(accumulator)>(Planes(x, channels_last), data<const T>(x), data<T>(value),
                                             data<uint8_t>(index));
  });
}

void group_max_scatter(const Tensor& grad, const Tensor& index, bool channels_last, const Tensor& map) {
  dispatch_size(grad, [&](auto zero) {
    using Bits = decltype(zero);
    scatter<Bits>(Planes(map, channels_last), data<const Bits>(grad), data<const uint8_t>(index), data<Bits>(map));
  });
}

void group_max_gather(const Tensor& map, const Tensor& index, bool channels_last, const Tensor& value) {
  dispatch_size(map, [&](auto zero) {
    using Bits = decltype(zero);
    gather<Bits>(Planes(map, channels_last), data<const Bits>(map), data<const uint8_t>(index), data<Bits>(value));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  define_pool(m);
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("group_max", TORCH_BOX(&group_max));
  m.impl("group_max_scatter", TORCH_BOX(&group_max_scatter));
  m.impl("group_max_gather", TORCH_BOX(&group_max_gather));
}
