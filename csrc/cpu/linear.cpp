// The operators of linear layers between functions on the group (linear.h).

#include "calls.h"

namespace {

template <typename T>
Linear<T> linear_of(const Tensor& x, int64_t cout, const Tables& tables) {
  Linear<T> job{x.size(2), tables.matrix.size(0), x.size(0), x.size(1), cout, data<const T>(x), 0, 0};
  // As in gather: about 200 channels for each pass over the sums, and as many tokens as the cache holds.
  job.depth = ceil_div(job.cin, ceil_div(job.cin, 192));
  job.tile = tile_of<T>(job.rank * (job.depth + cout));
  return job;
}

// x [tokens, C, order] -> y [tokens, C', order], contiguous (linear.h, jobs.h: LinearJob). weight: [Cout, Cin, order, 1, 1]; if
// `backward`, x has Cout channels and y Cin. sources, matrix: as in conv, of one tap.
void linear(const Tensor& x, const Tensor& weight, std::optional<Tensor> bias, bool backward, const Tensor& sources,
            const Tensor& matrix, const Tensor& y) {
  const Tables tables{sources, sources, matrix, 1, 1, 1, 1, backward, false};
  if (x.size(0) == 0) return;
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>();
    const Buffer<T> packed = pack(weight, 1, tables, false, k);
    LinearJob<T> job{linear_of<T>(x, y.size(1), tables), packed.get(), bias ? data<const T>(*bias) : nullptr, data<T>(y)};
    job.tile = for_threads(job.tile, job.tokens);
    run<LinearJob<T>, T>(job, ceil_div(job.tokens, job.tile), k.linear_scratch(job), k.linear);
  });
}

// The gradient of linear with respect to the weight, [Cout, Cin, order, 1, 1]. There is at least one token.
void linear_weight_grad(const Tensor& grad, const Tensor& x, const Tensor& sources, const Tensor& matrix,
                        const Tensor& weight_grad) {
  const Tables tables{sources, sources, matrix, 1, 1, 1, 1, false, false};
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>();
    LinearGradJob<T> job{linear_of<T>(x, grad.size(1), tables), data<const T>(grad), nullptr, 0, 0};
    FilterJob<T> filters = filter_job<T>(weight_grad, 1, false, tables);
    filters.width = round_up(job.cout, k.lanes);
    filters.q_step = job.cin * filters.width;
    job.products_size = job.rank * filters.q_step;
    job.parts = std::min(parts_of<T>(job.tokens, job.products_size), ceil_div(job.tokens, job.tile));
    // Products too large for parts: blocks of channels for the threads, each of which transforms the gradient.
    const int64_t blocks = std::min(ceil_div(torch::stable::get_num_threads(), job.parts), ceil_div(job.cin, 32));
    job.depth = std::min(job.depth, ceil_div(job.cin, blocks));
    const Buffer<T> products(job.parts * job.products_size);
    job.products = products.get();
    run<LinearGradJob<T>, T>(job, job.parts * ceil_div(job.cin, job.depth), k.linear_scratch(job), k.linear_weight_grad);
    unpack(job, filters, 1, weight_grad, k);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  m.def(
      "linear(Tensor x, Tensor weight, Tensor? bias, bool backward, Tensor sources, Tensor matrix, Tensor(a!) y) -> ()");
  m.def("linear_weight_grad(Tensor grad, Tensor x, Tensor sources, Tensor matrix, Tensor(a!) weight_grad) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("linear_weight_grad", TORCH_BOX(&linear_weight_grad));
}
