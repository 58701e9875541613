// Batch norm over batch, plane and group, with affine map and activation: one read for the statistics, one read and one
// write to normalise, and the same again backward.
//
// A thread stays in one channel (lanes.h). Sums run in float (double for double) over a thread's elements and over a block
// by a tree, and in double over the blocks, always in the same order: no atomics.

#include "launch.cuh"
#include "operators.h"

namespace {

using gcnn::ceil_div;
using gcnn::kThreads;
using gcnn::Lane;
using gcnn::Lanes;
using torch::stable::Tensor;

constexpr int64_t kMany = int64_t(1) << 30;  // no bound on the blocks

template <typename A>
struct Pair {
  A first, second;
};

// The sums over a group's members, valid in member 0. All threads of the block take part.
template <typename A>
__device__ Pair<A> sum_members(const Lanes& lanes, int member, Pair<A> value, Pair<A>* shared) {
  const int step = lanes.member_step();
  for (int rows = lanes.members; rows > 1;) {
    const int half = (rows + 1) / 2;
    shared[threadIdx.x] = value;
    __syncthreads();
    if (member < rows - half) {
      const Pair<A> other = shared[threadIdx.x + half * step];
      value.first += other.first;
      value.second += other.second;
    }
    __syncthreads();
    rows = half;
  }
  return value;
}

// ---- statistics

// Mean and sum of squared deviations of every slice. A thread's sums are of differences from its first element: that is
// one of the values, so they cannot cancel by more than their number.
template <typename T, typename A>
__global__ void slice_moments(Lanes lanes, const T* __restrict__ x, double* __restrict__ means,
                              double* __restrict__ m2s) {
  __shared__ Pair<A> shared[kThreads];
  const Lane lane = lanes.lane(blockIdx.x, threadIdx.x);
  const T* from = x + lane.offset;
  A pivot = 0, sum = 0, squares = 0;
  if (lane.count > 0) pivot = static_cast<A>(*from);
#pragma unroll 4
  for (int64_t k = 0; k < lane.count; ++k) {
    const A d = static_cast<A>(from[k * lane.step]) - pivot;
    sum += d;
    squares += d * d;
  }
  const A count = static_cast<A>(lane.count);
  A mean = 0, m2 = 0;
  if (lane.count > 0) {
    mean = sum / count;
    m2 = squares - sum * mean;
    m2 = m2 < 0 ? A(0) : m2;
  }

  // Means relative to the first member's pivot, then deviations from their weighted mean.
  const int first = threadIdx.x - lane.member * lanes.member_step();
  shared[threadIdx.x] = {pivot, A(0)};
  __syncthreads();
  const A reference = shared[first].first;
  __syncthreads();
  if (lane.count > 0) mean += pivot - reference;
  Pair<A> total = sum_members<A>(lanes, lane.member, {count, count * mean}, shared);
  if (lane.member == 0) shared[threadIdx.x] = {total.first > 0 ? total.second / total.first : A(0), A(0)};
  __syncthreads();
  const A centre = shared[first].first;
  __syncthreads();
  const A deviation = mean - centre;
  total = sum_members<A>(lanes, lane.member, {m2 + count * deviation * deviation, A(0)}, shared);
  if (lane.member == 0 && lane.count > 0) {
    const int64_t to = lanes.partial(lane);
    means[to] = static_cast<double>(reference) + static_cast<double>(centre);
    m2s[to] = static_cast<double>(total.first);
  }
}

constexpr int kColumns = 32, kRows = 16;  // threads of the kernels that add up slices: channels times slices

__device__ double sum_rows(double value, double (*shared)[kColumns]) {
  shared[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  double sum = 0;
  for (int row = 0; row < kRows; ++row) sum += shared[row][threadIdx.x];
  __syncthreads();
  return sum;
}

// Moments of the slices -> mean and biased variance of each channel.
template <typename A>
__global__ void combine_moments(Lanes lanes, const double* __restrict__ means, const double* __restrict__ m2s,
                                A* __restrict__ mean, A* __restrict__ var) {
  __shared__ double shared[kRows][kColumns];
  const int64_t c = int64_t(blockIdx.x) * kColumns + threadIdx.x, units = lanes.batch * lanes.slices;
  const bool inside = c < lanes.channels;
  const double count = static_cast<double>(lanes.batch * lanes.plane);
  double sum = 0;
  for (int64_t u = threadIdx.y; inside && u < units; u += kRows)
    sum += static_cast<double>(lanes.slice_size(u % lanes.slices)) * means[u * lanes.channels + c];
  const double centre = count > 0 ? sum_rows(sum, shared) / count : 0.0;
  sum = 0;
  for (int64_t u = threadIdx.y; inside && u < units; u += kRows) {
    const double deviation = means[u * lanes.channels + c] - centre;
    sum += m2s[u * lanes.channels + c] +
           static_cast<double>(lanes.slice_size(u % lanes.slices)) * deviation * deviation;
  }
  const double variance = count > 0 ? sum_rows(sum, shared) / count : 0.0;
  if (inside && threadIdx.y == 0) {
    mean[c] = static_cast<A>(centre);
    var[c] = static_cast<A>(variance);
  }
}

// ---- normalisation

template <typename A>
struct Norm {
  const A *mean, *rstd, *weight, *bias;  // weight, bias: null for none
  int64_t weight_step, bias_step;        // from sample to sample: 0 or the channels
  A slope;

  // x of one channel of one sample -> x - mean, and what the affine map makes of it.
  struct Channel {
    A mean, rstd, scale, shift, slope;

    __device__ A affine(A centred) const { return centred * scale + shift; }
    __device__ A activated(A t) const { return t > 0 ? t : slope * t; }
    __device__ A masked(A grad, A centred) const { return affine(centred) > 0 ? grad : slope * grad; }
  };

  __device__ Channel channel(const Lane& lane) const {
    const A r = rstd[lane.channel];
    return {mean[lane.channel], r, weight ? r * weight[lane.batch * weight_step + lane.channel] : r,
            bias ? bias[lane.batch * bias_step + lane.channel] : A(0), slope};
  }
};

template <typename T, typename A>
__global__ void apply(Lanes lanes, Norm<A> norm, const T* __restrict__ x, T* __restrict__ y) {
  const Lane lane = lanes.lane(blockIdx.x, threadIdx.x);
  if (lane.count == 0) return;
  const auto channel = norm.channel(lane);
#pragma unroll 4
  for (int64_t k = 0; k < lane.count; ++k) {
    const int64_t i = lane.offset + k * lane.step;
    y[i] = static_cast<T>(channel.activated(channel.affine(static_cast<A>(x[i]) - channel.mean)));
  }
}

template <typename T, typename A>
__global__ void slice_sums(Lanes lanes, Norm<A> norm, const T* __restrict__ grad, const T* __restrict__ x,
                           A* __restrict__ sums_g, A* __restrict__ sums_gx) {
  __shared__ Pair<A> shared[kThreads];
  const Lane lane = lanes.lane(blockIdx.x, threadIdx.x);
  Pair<A> sums = {A(0), A(0)};
  if (lane.count > 0) {
    const auto channel = norm.channel(lane);
#pragma unroll 4
    for (int64_t k = 0; k < lane.count; ++k) {
      const int64_t i = lane.offset + k * lane.step;
      const A centred = static_cast<A>(x[i]) - channel.mean;
      const A g = channel.masked(static_cast<A>(grad[i]), centred);
      sums.first += g;
      sums.second += g * centred;
    }
  }
  sums = sum_members(lanes, lane.member, sums, shared);
  if (lane.member == 0 && lane.count > 0) {
    const int64_t to = lanes.partial(lane);
    sums_g[to] = sums.first;
    sums_gx[to] = sums.second;
  }
}

// Sums of the slices -> [B, C]; those of g * (x - mean) become those of g * xhat.
template <typename A>
__global__ void combine_sums(Lanes lanes, const A* __restrict__ sums_g, const A* __restrict__ sums_gx,
                             const A* __restrict__ rstd, A* __restrict__ sum_g, A* __restrict__ sum_gx) {
  __shared__ double shared[kRows][kColumns];
  const int64_t tiles = (lanes.channels + kColumns - 1) / kColumns, b = blockIdx.x / tiles;
  const int64_t c = (blockIdx.x % tiles) * kColumns + threadIdx.x;
  const bool inside = c < lanes.channels;
  double g = 0, gx = 0;
  for (int64_t s = threadIdx.y; inside && s < lanes.slices; s += kRows) {
    const int64_t from = (b * lanes.slices + s) * lanes.channels + c;
    g += static_cast<double>(sums_g[from]);
    gx += static_cast<double>(sums_gx[from]);
  }
  g = sum_rows(g, shared);
  gx = sum_rows(gx, shared);
  if (inside && threadIdx.y == 0) {
    sum_g[b * lanes.channels + c] = static_cast<A>(g);
    sum_gx[b * lanes.channels + c] = static_cast<A>(gx * static_cast<double>(rstd[c]));
  }
}

template <typename T, typename A>
__global__ void backward_input(Lanes lanes, Norm<A> norm, const T* __restrict__ grad, const T* __restrict__ x,
                               const A* __restrict__ mean_g, const A* __restrict__ mean_gx, T* __restrict__ gx) {
  const Lane lane = lanes.lane(blockIdx.x, threadIdx.x);
  if (lane.count == 0) return;
  const auto channel = norm.channel(lane);
  const A constant = channel.rstd * mean_g[lane.channel];
  const A linear = channel.rstd * channel.rstd * mean_gx[lane.channel];
#pragma unroll 4
  for (int64_t k = 0; k < lane.count; ++k) {
    const int64_t i = lane.offset + k * lane.step;
    const A centred = static_cast<A>(x[i]) - channel.mean;
    const A g = channel.masked(static_cast<A>(grad[i]), centred);
    gx[i] = static_cast<T>(g * channel.scale - constant - centred * linear);
  }
}

// ---- operators. Maps [B, C, S, H, W] are dense in the format that channels_last says; mean and rstd [C], weight and bias
// [C] or [B, C] are contiguous and of the statistics' dtype.

// For kernels that write a map: enough threads to hide the memory's latency.
Lanes map_lanes(const Tensor& x, bool channels_last) {
  return Lanes(x.size(0), x.size(1), x.size(2) * x.size(3) * x.size(4), channels_last, 8, kMany);
}

// For sums: longer runs, so that the partial sums are little beside the map.
Lanes sum_lanes(const Tensor& x, bool channels_last, bool over_batch) {
  const int64_t batch = x.size(0), plane = x.size(2) * x.size(3) * x.size(4);
  const bool joined = channels_last && over_batch;  // rows of all samples follow one another
  return Lanes(joined ? 1 : batch, x.size(1), joined ? batch * plane : plane, channels_last, 32, 1024);
}

// Two numbers per slice and channel.
Tensor partial_sums(const Lanes& lanes, const Tensor& like, torch::headeronly::ScalarType dtype) {
  return torch::stable::new_empty(like, {2, lanes.batch * lanes.slices * lanes.channels}, dtype);
}

void norm_stats(const Tensor& x, bool channels_last, const Tensor& mean, const Tensor& var) {
  if (mean.numel() == 0) return;
  const gcnn::Launch launch(x);
  const Lanes lanes = sum_lanes(x, channels_last, true);
  const Tensor partial = partial_sums(lanes, x, torch::headeronly::ScalarType::Double);
  double* means = data<double>(partial);
  double* m2s = means + partial.size(1);
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using A = decltype(accumulator);
    launch(slice_moments<T, A>, lanes.blocks(), lanes.threads(), lanes, data<const T>(x), means, m2s);
    launch(combine_moments<A>, ceil_div(lanes.channels, kColumns), dim3(kColumns, kRows), lanes, means, m2s,
           data<A>(mean), data<A>(var));
  });
}

void norm_apply(const Tensor& x, bool channels_last, const Tensor& mean, const Tensor& rstd,
                const std::optional<Tensor>& weight, const std::optional<Tensor>& bias, double slope,
                const Tensor& y) {
  if (x.numel() == 0) return;
  const gcnn::Launch launch(x);
  const Lanes lanes = map_lanes(x, channels_last);
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using A = decltype(accumulator);
    const Norm<A> norm = norm_of<Norm<A>>(mean, data<const A>(rstd), weight, bias, slope);
    launch(apply<T, A>, lanes.blocks(), lanes.threads(), lanes, norm, data<const T>(x), data<T>(y));
  });
}

void norm_backward_sums(const Tensor& grad, const Tensor& x, bool channels_last, const Tensor& mean,
                        const Tensor& rstd, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                        double slope, const Tensor& sum_g, const Tensor& sum_gx) {
  if (sum_g.numel() == 0) return;
  const gcnn::Launch launch(x);
  const Lanes lanes = sum_lanes(x, channels_last, false);
  const Tensor partial = partial_sums(lanes, x, mean.scalar_type());
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using A = decltype(accumulator);
    A* sums_g = data<A>(partial);
    A* sums_gx = sums_g + partial.size(1);
    const Norm<A> norm = norm_of<Norm<A>>(mean, data<const A>(rstd), weight, bias, slope);
    launch(slice_sums<T, A>, lanes.blocks(), lanes.threads(), lanes, norm, data<const T>(grad),
           data<const T>(x), sums_g, sums_gx);
    launch(combine_sums<A>, lanes.batch * ceil_div(lanes.channels, kColumns), dim3(kColumns, kRows), lanes, sums_g,
           sums_gx, data<const A>(rstd), data<A>(sum_g), data<A>(sum_gx));
  });
}

void norm_backward_input(const Tensor& grad, const Tensor& x, bool channels_last, const Tensor& mean,
                         const Tensor& rstd, const std::optional<Tensor>& weight, const std::optional<Tensor>& bias,
                         double slope, const Tensor& mean_g, const Tensor& mean_gx, const Tensor& gx) {
  if (x.numel() == 0) return;
  const gcnn::Launch launch(x);
  const Lanes lanes = map_lanes(x, channels_last);
  dispatch_floating(x, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using A = decltype(accumulator);
    const Norm<A> norm = norm_of<Norm<A>>(mean, data<const A>(rstd), weight, bias, slope);
    launch(backward_input<T, A>, lanes.blocks(), lanes.threads(), lanes, norm, data<const T>(grad),
           data<const T>(x), data<const A>(mean_g), data<const A>(mean_gx), data<T>(gx));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cuda, m) {
  define_norm(m);
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cuda, CUDA, m) {
  m.impl("norm_stats", TORCH_BOX(&norm_stats));
  m.impl("norm_apply", TORCH_BOX(&norm_apply));
  m.impl("norm_backward_sums", TORCH_BOX(&norm_backward_sums));
  m.impl("norm_backward_input", TORCH_BOX(&norm_backward_input));
}
