// What the operators of convolutions and linear layers share: memory, threads, and filters for the kernels.
#pragma once

#include "simd.h"
#include "torch_abi.h"

#include <memory>
#include <new>

namespace {

using namespace gcnn;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Uninitialised memory, aligned to the longest vectors.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t count) : data_(static_cast<T*>(::operator new(count * sizeof(T), kAlignment))) {}
  T* get() const { return data_.get(); }

 private:
  static constexpr std::align_val_t kAlignment{64};
  struct Delete {
    void operator()(T* p) const { ::operator delete(p, kAlignment); }
  };
  std::unique_ptr<T, Delete> data_;
};

template <typename Job, typename T>
void run(const Job& job, int64_t items, int64_t scratch, void (*kernel)(const Job&, int64_t, int64_t, T*)) {
  torch::stable::parallel_for(0, items, 1, [&](int64_t begin, int64_t end) {
    kernel(job, begin, end, Buffer<T>(scratch).get());
  });
}

inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// What a thread keeps of a tile, transformed inputs and sums, should fill about half of a 1 MiB L2 cache, because filters
// and maps stream through it too.
constexpr int64_t kTileBytes = 640 << 10;
// What a part of the weight gradient of few channels has at least of the pixels, and what the products of all parts are
// limited to.
constexpr int64_t kPartPixels = 512, kPartBytes = 2 << 20;

// Pixels of a tile of which a thread keeps so many numbers each: whole blocks of 4, 6 or 8 rows (product.h: ROWS).
template <typename T>
int64_t tile_of(int64_t numbers) {
  const int64_t tile = kTileBytes / static_cast<int64_t>(sizeof(T)) / numbers;
  return std::clamp<int64_t>(tile / 24 * 24, 24, 192);
}

// Equal tiles, as many for each thread: at least two, unless they would have fewer than 8 pixels.
inline int64_t for_threads(int64_t tile, int64_t pixels) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t tiles = round_up(std::max(ceil_div(pixels, tile), 2 * threads), threads);
  return std::max<int64_t>(ceil_div(pixels, tiles), 8);
}

// Parts of the pixels for the threads, as many for any number of threads; `size` is what the products of a part take.
template <typename T>
int64_t parts_of(int64_t pixels, int64_t size) {
  const int64_t bytes = size * sizeof(T);
  return std::clamp<int64_t>(std::min(pixels / kPartPixels, kPartBytes / bytes), 1, 16);
}

template <template <typename> typename Job, typename T>
int64_t parts_of(const Job<T>& job, int64_t size) {
  return parts_of<T>(job.batch * job.out_h * job.out_w, size);
}

// What the operators have in common; `backward` says that x has the output's channels.
struct Tables {
  const Tensor &shifts, &sources, &matrix;
  int64_t mul_h, mul_w, div_h, div_w;
  bool backward, stacked;
};

template <typename T>
Correlation<T> correlation(const Tensor& x, const Tensor& y, const Tables& tables) {
  const int64_t rank = tables.stacked ? 1 : tables.matrix.size(0);
  return {x.size(2),      y.size(2),    tables.stacked, rank,         x.size(0),     x.size(1),
          y.size(1),      x.size(3),    x.size(4),      y.size(3),    y.size(4),     tables.shifts.size(0),
          data<const int32_t>(tables.shifts), tables.mul_h, tables.mul_w, tables.div_h, tables.div_w, data<const T>(x)};
}

// Filters [sets * cout, cin, slots, k, k] with rows and columns of channels.
template <typename T>
FilterJob<T> filter_job(const Tensor& weight, int64_t sets, bool cout_is_row, const Tables& tables) {
  FilterJob<T> job = {};
  job.rank = tables.matrix.size(0);
  job.order = tables.matrix.size(1);
  job.taps = tables.sources.size(0);
  job.size = weight.size(2) * weight.size(3) * weight.size(4);
  const int64_t cout = weight.size(0) / sets, cin = weight.size(1);
  job.rows = cout_is_row ? cout : cin;
  job.columns = cout_is_row ? cin : cout;
  job.set_stride = cout * cin * job.size;
  job.row_stride = cout_is_row ? cin * job.size : job.size;
  job.column_stride = cout_is_row ? job.size : cin * job.size;
  job.sources = data<const int64_t>(tables.sources);
  job.matrix = data<const T>(tables.matrix);
  job.group = 1;
  return job;
}

// `sets` of filters, packed as the job says.
template <typename T>
Buffer<T> pack(FilterJob<T> job, int64_t sets, const Tensor& weight, const Kernels<T>& k) {
  Buffer<T> packed(sets * job.set_size);
  // The padding of columns, which is written together with them if they are whole vectors.
  const bool padded = job.width % job.columns && (job.tap_column % k.lanes || job.q_column % k.lanes);
  std::fill_n(packed.get(), padded ? sets * job.set_size : 0, T(0));
  job.filters = data<const T>(weight);
  job.filters_end = job.filters + weight.numel();
  job.packed = packed.get();
  run<FilterJob<T>, T>(job, sets * job.rows, k.filter_scratch(job), k.pack_filters);
  return packed;
}

// Filters packed for gather: rows (tap, cin), columns cout, or all slots' (h, cout) if stacked. For spread: rows cin, or
// (h, cin) if stacked, columns (tap, cout).
template <typename T>
Buffer<T> pack(const Tensor& weight, int64_t sets, const Tables& tables, bool spread, const Kernels<T>& k) {
  FilterJob<T> job = filter_job<T>(weight, sets, tables.backward, tables);
  job.planes = !tables.stacked;
  (spread ? job.tap_column : job.tap_row) = spread ? job.columns : job.rows;
  job.depth = spread ? job.rows : job.taps * job.rows;
  job.width = spread ? job.taps * job.columns : job.columns;
  if (tables.stacked) {
    (spread ? job.q_row : job.q_column) = spread ? job.rows : job.columns;
    (spread ? job.depth : job.width) *= job.rank;
  }
  job.width = round_up(job.width, k.lanes);
  job.set_size = (job.planes ? job.rank : 1) * job.depth * job.width;
  return pack(job, sets, weight, k);
}

// The products of all parts, added in order in the place of the first one's.
template <template <typename> typename Job, typename T>
const T* add_parts(const Job<T>& job) {
  parallel_simd(job.parts > 1 ? job.products_size : 0, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t part = 1; part < job.parts; ++part) {
      const T* from = job.products + part * job.products_size;
      for (int64_t i = begin; i < end; ++i) job.products[i] += from[i];
    }
  });
  return job.products;
}

// The filters' gradient, `sets` of them, from the products of a job.
template <template <typename> typename Job, typename T>
void unpack(const Job<T>& job, FilterJob<T> filters, int64_t sets, const Tensor& weight_grad, const Kernels<T>& k) {
  filters.products = add_parts(job);
  filters.filters_grad = data<T>(weight_grad);
  run<FilterJob<T>, T>(filters, sets * filters.rows, k.filter_scratch(filters), k.unpack_products);
}

template <typename F>
void dispatch_computed(const Tensor& tensor, F f) {
  if (tensor.scalar_type() == ScalarType::Double) return f(double{});
  STD_TORCH_CHECK(tensor.scalar_type() == ScalarType::Float, "expected float32 or float64");
  f(float{});
}

}  // namespace
