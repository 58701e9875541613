// The operators of lifting convolutions by the symmetry of the taps (lift.h).

#include "calls.h"

namespace {

// Of a run's taps, inputs and outputs, which stay in the caches of one core; less where outputs are copied to the slots.
constexpr int64_t kRunBytes = 64 << 10, kCopiedBytes = 16 << 10;

template <typename T>
void set_columns(Lifting<T>& job) {
  const int64_t sums = job.rank > 1 ? job.order : 1;
  const int64_t lanes = kernels<T>().lanes;
  const bool copied = job.rank == 1 && (lanes * sizeof(T) < 64 || job.cout % lanes != 0);  // as in lift.h
  const int64_t most = (copied ? kCopiedBytes : kRunBytes) / ((2 * job.taps * job.cin + sums * job.cout) * sizeof(T));
  // Equal shares of a row, but whole cache lines, so that stores of most maps are aligned.
  job.columns = round_up(ceil_div(job.out_w, ceil_div(job.out_w, std::max<int64_t>(most, 24))), 16);
}

// Filters as products, with rows (product, cin) and columns cout.
template <typename T>
FilterJob<T> product_job(const Tensor& weight, const Tensor& taps, const Tensor& matrix) {
  return filter_job<T>(weight, 1, false, {taps, taps, matrix, 1, 1, 1, 1, false, false});
}

template <typename T>
Buffer<T> pack_products(const Tensor& weight, const Tensor& taps, const Tensor& matrix, const Kernels<T>& k) {
  FilterJob<T> job = product_job<T>(weight, taps, matrix);
  job.q_row = job.rows;
  job.depth = job.rank * job.rows;
  job.width = round_up(job.columns, k.lanes);
  job.set_size = job.depth * job.width;
  return pack(job, 1, weight, k);
}

template <typename T>
Lifting<T> lifting(const Tensor& x, const Tensor& y, const Tensor& shifts, const Tensor& basis, const Tensor& starts,
                   const Tensor& inputs, int64_t mul_h, int64_t mul_w) {
  Lifting<T> job{y.size(2), x.size(0), x.size(1), y.size(1), x.size(3), x.size(4), y.size(3), y.size(4),
                 basis.size(0), inputs.size(0), data<const int32_t>(shifts), mul_h, mul_w, data<const T>(basis),
                 data<const int32_t>(starts), data<const int32_t>(inputs), data<const T>(x), 0};
  if (job.taps == 1 && job.in_h == job.out_h && job.in_w == job.out_w && mul_h == 1 && mul_w == 1) {
    // All of a plane is one row, pixel by pixel: without stride there is no padding either if sizes are equal.
    job.in_w = job.out_w = job.in_h * job.in_w;
    job.in_h = job.out_h = 1;
  }
  set_columns(job);
  return job;
}

// The lifting convolution by the symmetry of the taps (lift.h, jobs.h: LiftJob). x, y: in channels_last_3d. weight: [Cout,
// Cin, 1, k, k], contiguous. shifts: int32 [taps, 1, 2]. basis: [taps, taps]. starts: int32 [order + 1]. inputs: int32
// [products]. matrix: [products, taps], what filters[l] is made of. taps: int64 [1, taps], all taps.
void lift(const Tensor& x, const Tensor& weight, std::optional<Tensor> bias, const Tensor& shifts, const Tensor& basis,
          const Tensor& starts, const Tensor& inputs, const Tensor& taps, const Tensor& matrix, int64_t mul_h,
          int64_t mul_w, const Tensor& y) {
  if (x.size(0) == 0) return;
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>();
    const Buffer<T> packed = pack_products<T>(weight, taps, matrix, k);
    const LiftJob<T> job{lifting<T>(x, y, shifts, basis, starts, inputs, mul_h, mul_w), packed.get(),
                         bias ? data<const T>(*bias) : nullptr, data<T>(y)};
    const int64_t items = job.batch * job.out_h * ceil_div(job.out_w, job.columns);
    run<LiftJob<T>, T>(job, items, k.lift_scratch(job), k.lift);
  });
}

// The gradient of lift with respect to the weight. grad has the shape of y, and at least one pixel.
void lift_weight_grad(const Tensor& grad, const Tensor& x, const Tensor& shifts, const Tensor& basis,
                      const Tensor& starts, const Tensor& inputs, const Tensor& taps, const Tensor& matrix,
                      int64_t mul_h, int64_t mul_w, const Tensor& weight_grad) {
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>();
    LiftGradJob<T> job{lifting<T>(x, grad, shifts, basis, starts, inputs, mul_h, mul_w), data<const T>(grad), nullptr,
                       0, 0};
    FilterJob<T> filters = product_job<T>(weight_grad, taps, matrix);
    filters.width = round_up(job.cout, k.lanes);
    filters.q_step = job.cin * filters.width;
    job.products_size = job.rank * filters.q_step;
    job.parts = parts_of(job, job.products_size);
    const Buffer<T> products(job.parts * job.products_size);
    job.products = products.get();
    run<LiftGradJob<T>, T>(job, job.parts, k.lift_scratch(job), k.lift_weight_grad);
    unpack(job, filters, 1, weight_grad, k);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  m.def(
      "lift(Tensor x, Tensor weight, Tensor? bias, Tensor shifts, Tensor basis, Tensor starts, Tensor inputs, "
      "Tensor taps, Tensor matrix, int mul_h, int mul_w, Tensor(a!) y) -> ()");
  m.def(
      "lift_weight_grad(Tensor grad, Tensor x, Tensor shifts, Tensor basis, Tensor starts, Tensor inputs, Tensor taps, "
      "Tensor matrix, int mul_h, int mul_w, Tensor(a!) weight_grad) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("lift", TORCH_BOX(&lift));
  m.impl("lift_weight_grad", TORCH_BOX(&lift_weight_grad));
}
