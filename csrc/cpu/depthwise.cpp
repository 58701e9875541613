// The operators of depthwise convolutions (depthwise_fourier.h, depthwise_direct.h).

#include "calls.h"

namespace {

// What a thread copies of a map that it convolves depthwise, and how many rows of the result at most.
constexpr int64_t kDepthwiseBytes = 256 << 10, kDepthwiseRows = 8;

template <typename T>
void set_rows(Depthwise<T>& job, int64_t lanes) {
  // Few enough for a vector of channels of what they read to stay in cache, and all blocks of rows alike.
  const int64_t row = job.in_slots * job.cosets * job.in_w * lanes * sizeof(T);
  const int64_t most = std::clamp<int64_t>(kDepthwiseBytes / row * job.div_h / job.mul_h, 1, kDepthwiseRows);
  job.rows = ceil_div(job.out_h, ceil_div(job.out_h, most));
}

template <typename T>
Depthwise<T> depthwise_of(const Tensor& x, const Tensor& y, int64_t cosets, const Tables& tables, const Kernels<T>& k) {
  Depthwise<T> job{correlation<T>(x, y, tables), cosets, 0, 0};
  job.in_slots /= cosets;
  job.out_slots /= cosets;
  job.shift_count = tables.shifts.numel() / 2;
  set_rows(job, k.lanes);
  return job;
}

// Filters [C * cosets, cosets, S, k, k] with a set for each coset of the map that is computed, a row for each of the other one,
// and channels along vectors.
template <typename T>
FilterJob<T> depthwise_filters(const Tensor& weight, int64_t cosets, const Tables& tables, const Kernels<T>& k) {
  FilterJob<T> job = filter_job<T>(weight, 1, false, tables);
  job.rows = cosets;
  job.columns = weight.size(0) / cosets;
  job.column_stride = cosets * cosets * job.size;
  job.row_stride = tables.backward ? cosets * job.size : job.size;
  job.set_stride = tables.backward ? job.size : cosets * job.size;
  job.q_row = cosets;
  job.tap_row = job.order * cosets;
  job.depth = job.taps * job.tap_row;
  job.width = round_up(job.columns, k.lanes);
  job.set_size = job.depth * job.width;
  return job;
}

// planar for as many groups as channels, each channel with its own filters and with channels along vectors
// (depthwise_fourier.h, jobs.h: DepthwiseJob). matrix: [order, order], the filters' transform into entries.
void depthwise_fourier(const Tensor& x, const Tensor& weight, std::optional<Tensor> bias, int64_t cosets, bool backward,
                       const Tensor& shifts, const Tensor& sources, const Tensor& matrix, int64_t mul_h, int64_t mul_w,
                       int64_t div_h, int64_t div_w, const Tensor& y) {
  const Tables tables{shifts, sources, matrix, mul_h, mul_w, div_h, div_w, backward, false};
  if (x.size(0) == 0) return;
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>(x.size(1));
    const Buffer<T> packed = pack(depthwise_filters<T>(weight, cosets, tables, k), cosets, weight, k);
    const DepthwiseJob<T> job{depthwise_of(x, y, cosets, tables, k), packed.get(), bias ? data<const T>(*bias) : nullptr,
                              data<T>(y)};
    run<DepthwiseJob<T>, T>(job, job.batch * ceil_div(job.out_h, job.rows), k.depthwise_scratch(job), k.depthwise);
  });
}

// The gradient of depthwise_fourier, with div = 1, with respect to the weight. grad has the shape of y, and at least one pixel.
void depthwise_fourier_weight_grad(const Tensor& grad, const Tensor& x, int64_t cosets, const Tensor& shifts,
                                   const Tensor& sources, const Tensor& matrix, int64_t mul_h, int64_t mul_w,
                                   const Tensor& weight_grad) {
  const Tables tables{shifts, sources, matrix, mul_h, mul_w, 1, 1, false, false};
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>(x.size(1));
    DepthwiseGradJob<T> job{depthwise_of(x, grad, cosets, tables, k), data<const T>(grad), nullptr, 0, 0};
    FilterJob<T> filters = depthwise_filters<T>(weight_grad, cosets, tables, k);
    filters.group = job.taps;
    filters.q_step = cosets * filters.width;
    job.products_size = cosets * filters.set_size;
    job.parts = std::min(parts_of(job, job.products_size), job.batch * ceil_div(job.out_h, job.rows));
    const Buffer<T> products(job.parts * job.products_size);
    job.products = products.get();
    run<DepthwiseGradJob<T>, T>(job, job.parts, k.depthwise_grad_scratch(job), k.depthwise_weight_grad);
    unpack(job, filters, cosets, weight_grad, k);
  });
}

template <typename T>
DirectDepthwise<T> direct_of(const Tensor& x, const Tensor& y, const Tensor& table, const Tensor& shifts, int64_t mul_h,
                             int64_t mul_w, int64_t div_h, int64_t div_w, const Kernels<T>& k) {
  STD_TORCH_CHECK(y.size(2) <= 2 || y.size(2) % 4 == 0, "expected 1, 2 or a multiple of 4 slots");
  const Tables tables{shifts, table, table, mul_h, mul_w, div_h, div_w, false, false};
  return {depthwise_of<T>(x, y, 1, tables, k), data<const int32_t>(table)};
}

// A depthwise convolution without a transform (depthwise_direct.h, jobs.h: DirectJob). x, y: maps of as many channels, in
// channels_last_3d. filters: [entries of a filter, C]. table: int32 [slots of y, slots of x * taps]. shifts: int32 [taps, 2].
void depthwise(const Tensor& x, const Tensor& filters, std::optional<Tensor> bias, const Tensor& table,
               const Tensor& shifts, int64_t mul_h, int64_t mul_w, int64_t div_h, int64_t div_w, const Tensor& y) {
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>(x.size(1));
    const DirectJob<T> job{direct_of<T>(x, y, table, shifts, mul_h, mul_w, div_h, div_w, k), data<const T>(filters),
                           bias ? data<const T>(*bias) : nullptr, data<T>(y)};
    run<DirectJob<T>, T>(job, job.batch * ceil_div(job.out_h, job.rows), k.direct_scratch(job), k.direct);
  });
}

// The gradient of depthwise, with div = 1, with respect to the filters.
void depthwise_weight_grad(const Tensor& grad, const Tensor& x, const Tensor& table, const Tensor& shifts, int64_t mul_h,
                           int64_t mul_w, const Tensor& filters_grad) {
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>(x.size(1));
    DirectGradJob<T> job{direct_of<T>(x, grad, table, shifts, mul_h, mul_w, 1, 1, k), data<const T>(grad), nullptr, 0,
                         filters_grad.numel()};
    job.parts = std::min(parts_of(job, job.products_size), job.batch * ceil_div(job.out_h, job.rows));
    const Buffer<T> products(job.parts * job.products_size);
    job.products = products.get();
    run<DirectGradJob<T>, T>(job, job.parts, k.direct_grad_scratch(job), k.direct_weight_grad);
    std::copy_n(add_parts(job), job.products_size, data<T>(filters_grad));
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  m.def(
      "depthwise_fourier(Tensor x, Tensor weight, Tensor? bias, int cosets, bool backward, Tensor shifts, Tensor sources, "
      "Tensor matrix, int mul_h, int mul_w, int div_h, int div_w, Tensor(a!) y) -> ()");
  m.def(
      "depthwise_fourier_weight_grad(Tensor grad, Tensor x, int cosets, Tensor shifts, Tensor sources, Tensor matrix, "
      "int mul_h, int mul_w, Tensor(a!) weight_grad) -> ()");
  m.def(
      "depthwise(Tensor x, Tensor filters, Tensor? bias, Tensor table, Tensor shifts, int mul_h, int mul_w, int div_h, "
      "int div_w, Tensor(a!) y) -> ()");
  m.def(
      "depthwise_weight_grad(Tensor grad, Tensor x, Tensor table, Tensor shifts, int mul_h, int mul_w, "
      "Tensor(a!) filters_grad) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("depthwise_fourier", TORCH_BOX(&depthwise_fourier));
  m.impl("depthwise_fourier_weight_grad", TORCH_BOX(&depthwise_fourier_weight_grad));
  m.impl("depthwise", TORCH_BOX(&depthwise));
  m.impl("depthwise_weight_grad", TORCH_BOX(&depthwise_weight_grad));
}
