// The operators of convolutions with pixels along the vectors (planar.h, planar_weight_grad.h).

#include "calls.h"

namespace {

// What a thread keeps of a convolution with pixels along the vectors, and how many pixels at least share the sums over lanes
// at the end of the weight gradient's products.
constexpr int64_t kWindowBytes = 1 << 20;
constexpr int64_t kDotPixels = 512;

// `scratch` says what a thread needs; most_rows: what leaves enough items for the threads.
template <template <typename> typename Job, typename T>
void set_rows(Job<T>& job, int64_t (*scratch)(const Job<T>&), int64_t most_rows) {
  job.rows = std::clamp<int64_t>(most_rows, 1, ceil_div(job.out_h, job.div_h));
  while (job.rows > 4 && scratch(job) * static_cast<int64_t>(sizeof(T)) > kWindowBytes) --job.rows;
}

// Work items of so many rows.
template <typename T>
int64_t planar_items(const Planar<T>& job, int64_t rows) {
  return job.batch * ceil_div(ceil_div(job.out_h, job.div_h), rows) * ceil_div(job.groups, job.block);
}

template <typename T>
void set_tiles(PlanarJob<T>& job, const Kernels<T>& k) {
  const int64_t threads = torch::stable::get_num_threads();
  job.depth = std::min<int64_t>(job.taps * job.cin, 192);
  job.tile = k.panel;
  set_rows(job, k.planar_scratch, ceil_div(planar_items(job, 1), 4 * threads));
}

template <typename T>
Planar<T> planar_of(const Tensor& x, const Tensor& y, int64_t groups, int64_t cosets, const Tables& tables,
                    const Kernels<T>& k) {
  Planar<T> job{correlation<T>(x, y, tables), groups, cosets, 1, 0};
  // So many parts that their channels, which are read and written together, fill vectors.
  job.block = ceil_div(groups, std::clamp<int64_t>(std::min(job.cin, job.cout) / k.lanes, 1, groups));
  job.cin = job.cin / groups * cosets;
  job.cout = job.cout / groups * cosets;
  job.in_slots /= cosets;
  job.out_slots /= cosets;
  return job;
}

// conv (gathering) of the maps of each of `groups` parts of the channels, with pixels along the vectors (planar.h, jobs.h:
// PlanarJob). x, y: [B, C, S * cosets, H, W], slots being pairs (slot, coset). weight: [Cout, Cin / groups, S, k, k] and bias
// [Cout] of channels that are pairs (channel, coset).
void planar(const Tensor& x, const Tensor& weight, std::optional<Tensor> bias, int64_t groups, int64_t cosets,
            bool backward, const Tensor& shifts, const Tensor& sources, const Tensor& matrix, int64_t mul_h,
            int64_t mul_w, int64_t div_h, int64_t div_w, const Tensor& y) {
  const Tables tables{shifts, sources, matrix, mul_h, mul_w, div_h, div_w, backward, false};
  if (x.size(0) == 0) return;
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>();
    const Buffer<T> packed = pack(weight, groups, tables, false, k);
    PlanarJob<T> job{planar_of(x, y, groups, cosets, tables, k), packed.get(), bias ? data<const T>(*bias) : nullptr,
                     data<T>(y), 0, 0};
    set_tiles(job, k);
    run<PlanarJob<T>, T>(job, planar_items(job, job.rows), k.planar_scratch(job), k.planar);
  });
}

// The gradient of planar, with div = 1, with respect to the weight. grad has the shape of y, and at least one pixel.
void planar_weight_grad(const Tensor& grad, const Tensor& x, int64_t groups, int64_t cosets, bool backward,
                        const Tensor& shifts, const Tensor& sources, const Tensor& matrix, int64_t mul_h, int64_t mul_w,
                        const Tensor& weight_grad) {
  const Tables tables{shifts, sources, matrix, mul_h, mul_w, 1, 1, backward, false};
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>();
    PlanarGradJob<T> job{planar_of(x, grad, groups, cosets, tables, k), data<const T>(grad), nullptr, 0, 0};
    FilterJob<T> filters = filter_job<T>(weight_grad, groups, backward, tables);
    filters.tap_row = job.cin;
    filters.group = job.taps;
    filters.width = round_up(job.cout, k.lanes);
    filters.q_step = job.taps * job.cin * filters.width;
    filters.set_size = job.rank * filters.q_step;
    job.products_size = groups * filters.set_size;
    set_rows(job, k.planar_grad_scratch, ceil_div(kDotPixels, job.out_w));
    job.parts = std::min(parts_of(job, job.products_size), job.batch * ceil_div(job.out_h, job.rows));
    const Buffer<T> products(job.parts * job.products_size);
    job.products = products.get();
    run<PlanarGradJob<T>, T>(job, job.parts * ceil_div(groups, job.block), k.planar_grad_scratch(job), k.planar_weight_grad);
    unpack(job, filters, groups, weight_grad, k);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  m.def(
      "planar(Tensor x, Tensor weight, Tensor? bias, int groups, int cosets, bool backward, Tensor shifts, Tensor sources, "
      "Tensor matrix, int mul_h, int mul_w, int div_h, int div_w, Tensor(a!) y) -> ()");
  m.def(
      "planar_weight_grad(Tensor grad, Tensor x, int groups, int cosets, bool backward, Tensor shifts, Tensor sources, "
      "Tensor matrix, int mul_h, int mul_w, Tensor(a!) weight_grad) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("planar", TORCH_BOX(&planar));
  m.impl("planar_weight_grad", TORCH_BOX(&planar_weight_grad));
}
