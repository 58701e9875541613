// Cosets among the slots of a map, [batch, slot, coset, pixel, channel], to cosets among its channels, [batch, slot, pixel,
// channel, coset], and back.

#include "simd.h"

#include <type_traits>

namespace {

using torch::stable::Tensor;

constexpr int64_t kBlock = 4096;  // elements of a coset per work item

// body(from, to, begin, end) for blocks of the `size` elements of a coset, of each of `outer` slots; both arrays hold `cosets`
// times as many.
template <typename T, typename Cosets, typename Body>
void for_each_block(Cosets cosets, int64_t outer, int64_t size, const T* from, T* to, const Body& body) {
  const int64_t blocks = (size + kBlock - 1) / kBlock;
  parallel_simd(outer * blocks, 4, [=](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t begin = i % blocks * kBlock, slot = i / blocks * cosets * size;
      body(from + slot, to + slot, begin, std::min(begin + kBlock, size));
    }
  });
}

template <typename T, typename Cosets>
void split(Cosets cosets, int64_t outer, int64_t size, const T* x, T* y) {
  for_each_block(cosets, outer, size, x, y, [=](const T* from, T* to, int64_t begin, int64_t end) {
    if constexpr (std::is_same_v<Cosets, int64_t>) {
      for (int64_t d = 0; d < cosets; ++d)
        for (int64_t i = begin; i < end; ++i) to[i * cosets + d] = from[d * size + i];
    } else {
#pragma omp simd
      for (int64_t i = begin; i < end; ++i)
        for (int64_t d = 0; d < cosets; ++d) to[i * cosets + d] = from[d * size + i];
    }
  });
}

template <typename T, typename Cosets>
void join(Cosets cosets, int64_t outer, int64_t size, const T* y, T* x) {
  for_each_block(cosets, outer, size, y, x, [=](const T* from, T* to, int64_t begin, int64_t end) {
    for (int64_t d = 0; d < cosets; ++d)
#pragma omp simd
      for (int64_t i = begin; i < end; ++i) to[d * size + i] = from[i * cosets + d];
  });
}

// f(zero, cosets, outer, size) for x [B, C, S * cosets, H, W] and y [B, C * cosets, S, H, W], as numbers of their size.
template <typename F>
void dispatch(const Tensor& x, const Tensor& y, const F& f) {
  const int64_t cosets = x.size(2) / y.size(2), outer = y.size(0) * y.size(2);
  const int64_t size = x.size(1) * x.size(3) * x.size(4);
  const auto with_cosets = [&](auto zero) {
    // Most groups have 2, which are worth vectors of their own.
    if (cosets == 2) return f(zero, std::integral_constant<int, 2>{}, outer, size);
    f(zero, cosets, outer, size);
  };
  switch (x.element_size()) {
    case 2: return with_cosets(int16_t{});
    case 4: return with_cosets(int32_t{});
    case 8: return with_cosets(int64_t{});
    default: STD_TORCH_CHECK(false, "expected a floating-point tensor");
  }
}

// x: [B, C, S * cosets, H, W], y: [B, C * cosets, S, H, W], both in channels_last_3d and of one dtype.
void split_cosets(const Tensor& x, const Tensor& y) {
  dispatch(x, y, [&](auto zero, auto cosets, int64_t outer, int64_t size) {
    using T = decltype(zero);
    split(cosets, outer, size, data<const T>(x), data<T>(y));
  });
}

void join_cosets(const Tensor& y, const Tensor& x) {
  dispatch(x, y, [&](auto zero, auto cosets, int64_t outer, int64_t size) {
    using T = decltype(zero);
    join(cosets, outer, size, data<const T>(y), data<T>(x));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  m.def("split_cosets(Tensor x, Tensor(a!) y) -> ()");
  m.def("join_cosets(Tensor y, Tensor(a!) x) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("split_cosets", TORCH_BOX(&split_cosets));
  m.impl("join_cosets", TORCH_BOX(&join_cosets));
}
