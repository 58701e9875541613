// All kernels of one instruction set. Included by kernels_<set>.cpp inside namespace gcnn, after GCNN_ISA and
// GCNN_VECTOR_BYTES are set and the set is switched on.

namespace GCNN_ISA {
namespace {

#include "product.h"

#include "bilinear.h"

#include "correlation.h"

#include "gather.h"

#include "spread.h"

#include "planes.h"

#include "filter_transform.h"

#include "planar.h"

#include "planar_weight_grad.h"

#include "depthwise.h"

#include "depthwise_direct.h"

#include "depthwise_fourier.h"

#include "lift.h"

#include "linear.h"

#include "weight_grad.h"

// f(G{}) with the algorithm for a correlation that gathers, or one that spreads.
template <template <int> typename G, typename F>
auto with_order(int64_t order, const F& f) {
  return order == 2 ? f(G<2>{}) : order == 4 ? f(G<4>{}) : f(G<8>{});
}

template <typename T, typename F>
auto with_gathering(const Correlation<T>& job, const F& f) {
  if (job.stacked) return with_order<Stack>(job.out_slots, f);
  if (job.out_slots == 1) return with_order<Sum>(job.in_slots, f);
  return job.in_slots == 4 ? f(C4{}) : f(D4{});
}

template <typename T, typename F>
auto with_spreading(const Correlation<T>& job, const F& f) {
  if (job.stacked) return with_order<Unstack>(job.in_slots, f);
  if (job.in_slots == 1) return with_order<Copy>(job.out_slots, f);
  return job.in_slots == 4 ? f(C4{}) : f(D4{});
}

template <typename T>
void gather(const GatherJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_gathering(job, [&](auto g) { gather_items<decltype(g)>(job, begin, end, scratch); });
}

template <typename T>
int64_t spread_scratch(const SpreadJob<T>& job) {
  return with_spreading(job, [&](auto g) { return SpreadScratch<decltype(g), T>(job).total(job); });
}

template <typename T>
void spread(const SpreadJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_spreading(job, [&](auto g) { spread_items<decltype(g)>(job, begin, end, scratch); });
}

template <typename T, typename F>
auto with_planes(const Planar<T>& job, const F& f) {
  return job.in_slots == 4 ? f(C4{}) : f(D4{});
}

template <typename T>
void planar(const PlanarJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_planes(job, [&](auto g) { planar_items<decltype(g)>(job, begin, end, scratch); });
}

template <typename T>
void planar_weight_grad(const PlanarGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_planes(job, [&](auto g) { planar_weight_grad_items<decltype(g)>(job, begin, end, scratch); });
}

// f(G{}, how many cosets are computed together).
template <typename T, typename F>
void with_cosets(const Depthwise<T>& job, const F& f) {
  const auto of = [&](auto g) {
    constexpr int together = DEPTHWISE_COSETS<decltype(g)>;
    job.cosets % together ? f(g, Constant<1>{}) : f(g, Constant<together>{});
  };
  job.in_slots == 4 ? of(C4{}) : of(D4{});
}

template <typename T>
void depthwise(const DepthwiseJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_cosets(job, [&](auto g, auto together) { depthwise_items<decltype(g), together.value>(job, begin, end, scratch); });
}

template <typename T>
void depthwise_weight_grad(const DepthwiseGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_cosets(job, [&](auto g, auto together) {
    depthwise_weight_grad_items<decltype(g), together.value>(job, begin, end, scratch);
  });
}

// f(Constant<slots of y that are computed together>{}).
template <typename T, typename F>
void with_slots(const DirectDepthwise<T>& job, const F& f) {
  job.out_slots == 1 ? f(Constant<1>{}) : job.out_slots == 2 ? f(Constant<2>{}) : f(Constant<4>{});
}

template <typename T>
void direct(const DirectJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_slots(job, [&](auto slots) { direct_items<slots.value>(job, begin, end, scratch); });
}

template <typename T>
void direct_weight_grad(const DirectGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_slots(job, [&](auto slots) {
    job.in_slots == 1 ? direct_weight_grad_items<slots.value, 1>(job, begin, end, scratch)
                      : direct_weight_grad_items<slots.value, 2>(job, begin, end, scratch);
  });
}

template <typename T, typename F>
void with_lifting(const Lifting<T>& job, const F& f) {
  if (job.rank == 1) return with_order<Copy>(job.order, f);
  return job.order == 4 ? f(C4{}) : f(D4{});
}

template <typename T>
void lift(const LiftJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_lifting(job, [&](auto g) { lift_items<decltype(g)>(job, begin, end, scratch); });
}

template <typename T>
void lift_weight_grad(const LiftGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_lifting(job, [&](auto g) { lift_weight_grad_items<decltype(g)>(job, begin, end, scratch); });
}

template <typename T>
void linear(const LinearJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  job.order == 4 ? linear_items<C4>(job, begin, end, scratch) : linear_items<D4>(job, begin, end, scratch);
}

template <typename T>
void linear_weight_grad(const LinearGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  job.order == 4 ? linear_weight_grad_items<C4>(job, begin, end, scratch)
                 : linear_weight_grad_items<D4>(job, begin, end, scratch);
}

template <typename T>
void weight_grad(const WeightGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  with_gathering(job, [&](auto g) { weight_grad_items<decltype(g)>(job, begin, end, scratch); });
}

template <typename T>
constexpr Kernels<T> table = {
    LANES<T>,
    PANEL<T>,
    filter_scratch<T>,
    pack_filters<T>,
    unpack_products<T>,
    gather_scratch<T>,
    gather<T>,
    spread_scratch<T>,
    spread<T>,
    planar_scratch<T>,
    planar_grad_scratch<T>,
    planar<T>,
    planar_weight_grad<T>,
    depthwise_scratch<T>,
    depthwise_grad_scratch<T>,
    depthwise<T>,
    depthwise_weight_grad<T>,
    direct_scratch<T>,
    direct_grad_scratch<T>,
    direct<T>,
    direct_weight_grad<T>,
    lift_scratch<T>,
    lift<T>,
    lift_weight_grad<T>,
    linear_scratch<T>,
    linear<T>,
    linear_weight_grad<T>,
    weight_grad_scratch<T>,
    weight_grad<T>,
};

}  // namespace

void get(const Kernels<float>*& kernels) { kernels = &table<float>; }
void get(const Kernels<double>*& kernels) { kernels = &table<double>; }

}  // namespace GCNN_ISA
