// The filter stack and its adjoint: every base filter in every pose, one kernel each.

#include "launch.cuh"
#include "operators.h"

namespace {

using torch::stable::Tensor;

// Blocks of kThreads elements, `chunks` of them per filter.
struct Filters {
  int order, size, length;  // size: slots times taps; length: times input channels

  Filters(const Tensor& weight, const Tensor& table)
      : order(static_cast<int>(table.size(0))), size(static_cast<int>(table.size(1))) {
    const int64_t elements = weight.size(1) * table.size(1);
    STD_TORCH_CHECK(elements <= INT32_MAX, "expected less than 2^31 elements in one filter, got ", elements);
    length = static_cast<int>(elements);
  }

  GCNN_HOST_DEVICE int chunks() const { return (length + gcnn::kThreads - 1) / gcnn::kThreads; }
};

// stack[o, h, i, j] = weight[o, i, sources[h, j]]; j runs over slots and taps.
template <typename Bits>
__global__ void expand(Filters filters, const Bits* __restrict__ weight, const int64_t* __restrict__ sources,
                       Bits* __restrict__ stack) {
  const int filter = blockIdx.x / filters.chunks(), o = filter / filters.order, h = filter % filters.order;
  const int e = (blockIdx.x % filters.chunks()) * gcnn::kThreads + threadIdx.x;
  if (e >= filters.length) return;
  const int j = e % filters.size;
  const int64_t from = int64_t(o) * filters.length + (e - j) + sources[h * filters.size + j];
  stack[int64_t(filter) * filters.length + e] = weight[from];
}

// weight[o, i, j] = sum over h of stack[o, h, i, targets[h, j]].
template <typename T, typename Sum>
__global__ void reduce(Filters filters, const T* __restrict__ stack, const int64_t* __restrict__ targets,
                       T* __restrict__ weight) {
  const int o = blockIdx.x / filters.chunks();
  const int e = (blockIdx.x % filters.chunks()) * gcnn::kThreads + threadIdx.x;
  if (e >= filters.length) return;
  const int j = e % filters.size;
  Sum sum = 0;
#pragma unroll 4
  for (int h = 0; h < filters.order; ++h) {
    const int64_t filter = int64_t(o) * filters.order + h;
    sum += static_cast<Sum>(stack[filter * filters.length + (e - j) + targets[h * filters.size + j]]);
  }
  weight[int64_t(o) * filters.length + e] = static_cast<T>(sum);
}

// weight [Cout, Cin, S, k, k], sources and targets [order, S*k*k], stack [Cout * order, Cin * S, k, k]; all contiguous.
void expand_filters(const Tensor& weight, const Tensor& sources, const Tensor& stack) {
  const gcnn::Launch launch(weight);
  const Filters filters(weight, sources);
  dispatch_size(weight, [&](auto bits) {
    using Bits = decltype(bits);
    launch(expand<Bits>, stack.size(0) * filters.chunks(), gcnn::kThreads, filters, data<const Bits>(weight),
           data<const int64_t>(sources), data<Bits>(stack));
  });
}

void reduce_filters(const Tensor& stack, const Tensor& targets, const Tensor& weight) {
  const gcnn::Launch launch(stack);
  const Filters filters(weight, targets);
  dispatch_floating(stack, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    launch(reduce<T, decltype(accumulator)>, weight.size(0) * filters.chunks(), gcnn::kThreads, filters,
           data<const T>(stack), data<const int64_t>(targets), data<T>(weight));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cuda, m) {
  define_filters(m);
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cuda, CUDA, m) {
  m.impl("expand_filters", TORCH_BOX(&expand_filters));
  m.impl("reduce_filters", TORCH_BOX(&reduce_filters));
}
