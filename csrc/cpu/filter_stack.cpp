// The filter stack and its adjoint: every base filter in every pose, one pass each.

#include "torch_abi.h"
#include "operators.h"

namespace {

using torch::stable::Tensor;

// out[o, h, i, j] = weight[o, i, sources[h, j]]; j runs over slots and taps.
template <typename T>
void expand(const T* weight, const int64_t* sources, T* stack, int64_t cout, int64_t cin, int64_t order, int64_t size) {
  torch::stable::parallel_for(0, cout, 1, [&](int64_t begin, int64_t end) {
    for (int64_t o = begin; o < end; ++o)
      for (int64_t h = 0; h < order; ++h)
        for (int64_t i = 0; i < cin; ++i) {
          const T* from = weight + (o * cin + i) * size;
          T* to = stack + ((o * order + h) * cin + i) * size;
          for (int64_t j = 0; j < size; ++j) to[j] = from[sources[h * size + j]];
        }
  });
}

// weight[o, i, j] = sum over h of stack[o, h, i, targets[h, j]].
template <typename T, typename Sum>
void reduce(const T* stack, const int64_t* targets, T* weight, int64_t cout, int64_t cin, int64_t order, int64_t size) {
  torch::stable::parallel_for(0, cout, 1, [&](int64_t begin, int64_t end) {
    std::vector<Sum> sum(size);
    for (int64_t o = begin; o < end; ++o)
      for (int64_t i = 0; i < cin; ++i) {
        std::fill(sum.begin(), sum.end(), Sum(0));
        for (int64_t h = 0; h < order; ++h) {
          const T* from = stack + ((o * order + h) * cin + i) * size;
          for (int64_t j = 0; j < size; ++j) sum[j] += static_cast<Sum>(from[targets[h * size + j]]);
        }
        T* to = weight + (o * cin + i) * size;
        for (int64_t j = 0; j < size; ++j) to[j] = static_cast<T>(sum[j]);
      }
  });
}

// weight [Cout, Cin, S, k, k], sources and targets [order, S*k*k], stack [Cout * order, Cin * S, k, k]; all contiguous.
void expand_filters(const Tensor& weight, const Tensor& sources, const Tensor& stack) {
  const int64_t cout = weight.size(0), cin = weight.size(1), order = sources.size(0), size = sources.size(1);
  dispatch_floating(weight, [&](auto zero, auto) {
    using T = decltype(zero);
    expand<T>(data<const T>(weight), data<const int64_t>(sources), data<T>(stack), cout, cin, order, size);
  });
}

void reduce_filters(const Tensor& stack, const Tensor& targets, const Tensor& weight) {
  const int64_t cout = weight.size(0), cin = weight.size(1), order = targets.size(0), size = targets.size(1);
  dispatch_floating(stack, [&](auto zero, auto accumulator) {
    using T = decltype(zero);
    using Sum = decltype(accumulator);
    reduce<T, Sum>(data<const T>(stack), data<const int64_t>(targets), data<T>(weight), cout, cin, order, size);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  define_filters(m);
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("expand_filters", TORCH_BOX(&expand_filters));
  m.impl("reduce_filters", TORCH_BOX(&reduce_filters));
}
