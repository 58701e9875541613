// Maximum over the group, and the scatter and gather by its index; a thread per element of the result's plane.
//
// Both memory formats are [outer, slots, inner]: outer is the batch in channels_last (inner: pixels times channels), batch
// times channels otherwise (inner: pixels).

#include "launch.cuh"
#include "operators.h"

namespace {

using gcnn::Plane;
using torch::stable::Tensor;

template <typename T, typename A>
__global__ void max_over_slots(Plane plane, int slots, const T* __restrict__ x, T* __restrict__ value,
                               uint8_t* __restrict__ index) {
  const Plane::Element e = plane.element(blockIdx.x, threadIdx.x);
  if (!e.inside) return;
  const T* from = x + e.o * slots * plane.inner + e.i;
  A best = static_cast<A>(*from);
  int where = 0;
#pragma unroll 4
  for (int s = 1; s < slots; ++s) {
    const A candidate = static_cast<A>(from[s * plane.inner]);
    const bool better = !(candidate <= best) && best == best;  // the first NaN stays
    best = better ? candidate : best;
    where = better ? s : where;
  }
  value[e.o * plane.inner + e.i] = static_cast<T>(best);
  index[e.o * plane.inner + e.i] = static_cast<uint8_t>(where);
}

template <typename Bits>
__global__ void scatter(Plane plane, int slots, const Bits* __restrict__ grad, const uint8_t* __restrict__ index,
                        Bits* __restrict__ map) {
  const Plane::Element e = plane.element(blockIdx.x, threadIdx.x);
  if (!e.inside) return;
  const Bits g = grad[e.o * plane.inner + e.i];
  const int where = index[e.o * plane.inner + e.i];
  Bits* to = map + e.o * slots * plane.inner + e.i;
#pragma unroll 4
  for (int s = 0; s < slots; ++s) to[s * plane.inner] = s == where ? g : Bits(0);
}

template <typename Bits>
__global__ void gather(Plane plane, int slots, const Bits* __restrict__ map, const uint8_t* __restrict__ index,
                       Bits* __restrict__ value) {
  const Plane::Element e = plane.element(blockIdx.x, threadIdx.x);
  if (!e.inside) return;
  const int64_t to = e.o * plane.inner + e.i;
  value[to] = map[(e.o * slots + index[to]) * plane.inner + e.i];
}

Plane plane_of(const Tensor& map, bool channels_last) {
  const int64_t pixels = map.size(3) * map.size(4), channels = map.size(1);
  return channels_last ? Plane(map.size(0), pixels * channels) : Plane(map.size(0) * channels, pixels);
}

// Maps [B, C, S, H, W] and planes [B, C, H, W] are dense in the format that channels_last says.
void group_max(const Tensor& x, bool channels_last, const Tensor& value, const Tensor& index) {
  if (value.numel() == 0) return;
  const gcnn::Launch launch(x);
  const Plane plane = plane_of(x, channels_last);
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    launch(max_over_slots<T, decltype(accumulator)>, plane.blocks(), gcnn::kThreads, plane,
           static_cast<int>(x.size(2)), data<const T>(x), data<T>(value), data<uint8_t>(index));
  });
}

void group_max_scatter(const Tensor& grad, const Tensor& index, bool channels_last, const Tensor& map) {
  if (map.numel() == 0) return;
  const gcnn::Launch launch(grad);
  const Plane plane = plane_of(map, channels_last);
  dispatch_size(grad, [&](auto bits) {
    using Bits = decltype(bits);
    launch(scatter<Bits>, plane.blocks(), gcnn::kThreads, plane, static_cast<int>(map.size(2)), data<const Bits>(grad),
           data<const uint8_t>(index), data<Bits>(map));
  });
}

void group_max_gather(const Tensor& map, const Tensor& index, bool channels_last, const Tensor& value) {
  if (value.numel() == 0) return;
  const gcnn::Launch launch(map);
  const Plane plane = plane_of(map, channels_last);
  dispatch_size(map, [&](auto bits) {
    using Bits = decltype(bits);
    launch(gather<Bits>, plane.blocks(), gcnn::kThreads, plane, static_cast<int>(map.size(2)), data<const Bits>(map),
           data<const uint8_t>(index), data<Bits>(value));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cuda, m) {
  define_pool(m);
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cuda, CUDA, m) {
  m.impl("group_max", TORCH_BOX(&group_max));
  m.impl("group_max_scatter", TORCH_BOX(&group_max_scatter));
  m.impl("group_max_gather", TORCH_BOX(&group_max_gather));
}
