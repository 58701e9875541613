// What the operators have in common that both binaries register: their schemas, and the norm's parameters. Included after
// torch_abi.h.
#pragma once

#include <optional>

template <typename Library>
void define_filters(Library& m) {
  m.def("expand_filters(Tensor weight, Tensor sources, Tensor(a!) stack) -> ()");
  m.def("reduce_filters(Tensor stack, Tensor targets, Tensor(a!) weight) -> ()");
}

template <typename Library>
void define_norm(Library& m) {
  m.def("norm_stats(Tensor x, bool channels_last, Tensor(a!) mean, Tensor(b!) var) -> ()");
  m.def(
      "norm_apply(Tensor x, bool channels_last, Tensor mean, Tensor rstd, Tensor? weight, Tensor? bias, float slope, "
      "Tensor(a!) y) -> ()");
  m.def(
      "norm_backward_sums(Tensor grad, Tensor x, bool channels_last, Tensor mean, Tensor rstd, Tensor? weight, "
      "Tensor? bias, float slope, Tensor(a!) sum_g, Tensor(b!) sum_gx) -> ()");
  m.def(
      "norm_backward_input(Tensor grad, Tensor x, bool channels_last, Tensor mean, Tensor rstd, Tensor? weight, "
      "Tensor? bias, float slope, Tensor mean_g, Tensor mean_gx, Tensor(a!) gx) -> ()");
}

template <typename Library>
void define_pool(Library& m) {
  m.def("group_max(Tensor x, bool channels_last, Tensor(a!) value, Tensor(b!) index) -> ()");
  m.def("group_max_scatter(Tensor grad, Tensor index, bool channels_last, Tensor(a!) map) -> ()");
  m.def("group_max_gather(Tensor map, Tensor index, bool channels_last, Tensor(a!) value) -> ()");
}

// The norm's arguments as its kernels take them, from mean [C], weight and bias [C] or [B, C] or absent, and the reciprocal
// standard deviations [C]. `Norm` has these seven members in this order.
template <typename Norm, typename A>
Norm norm_of(const torch::stable::Tensor& mean, const A* rstd, const std::optional<torch::stable::Tensor>& weight,
             const std::optional<torch::stable::Tensor>& bias, double slope) {
  using Parameter = std::optional<torch::stable::Tensor>;
  const auto values = [](const Parameter& t) { return t ? data<const A>(*t) : nullptr; };
  const auto step = [](const Parameter& t) { return t && t->dim() == 2 ? t->size(1) : int64_t(0); };
  return {data<const A>(mean), rstd, values(weight), values(bias), step(weight), step(bias), static_cast<A>(slope)};
}
