// The operators of the convolutions: sizes of tiles, threads, and calls of the kernels.

#include "isa.h"
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

int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

// What a thread keeps of a tile, transformed inputs and sums, should fill about half of a 1 MiB L2 cache, because filters
// and maps stream through it too.
constexpr int64_t kTileBytes = 640 << 10;
// The span of pixels that the weight gradient works on: input and transformed output gradient are read once per tap and
// block of channels, so they should stay in cache, but not at the price of less than a few tiles.
constexpr int64_t kSpanBytes = 2 << 20;
// What a part of the weight gradient of few channels has at least of the pixels, and what the products of all parts are
// limited to.
constexpr int64_t kPartPixels = 512, kPartBytes = 2 << 20;
// What a thread keeps of a convolution with pixels along the vectors, and how many pixels at least share the sums over lanes
// at the end of the weight gradient's products.
constexpr int64_t kWindowBytes = 1 << 20;
constexpr int64_t kDotPixels = 512;
constexpr int64_t kRunBytes = 64 << 10;
// What a thread copies of a map that it convolves depthwise, and how many rows of the result at most.
constexpr int64_t kDepthwiseBytes = 256 << 10, kDepthwiseRows = 8;
// What the scratch memory of one thread is limited to where many channels would ask for more. With the rest of a tile a
// thread stays below 16 MiB.
constexpr int64_t kScratchBytes = 8 << 20;

template <typename T>
void set_tiles(GatherJob<T>& job, int64_t panel) {
  // About 200 entries deep, a product spends 2% of its time on loading and storing the sums.
  job.depth = job.cin > 256 ? ceil_div(job.cin, ceil_div(job.cin, 192)) : job.cin * std::max<int64_t>(1, 192 / job.cin);
  job.depth = std::min(job.depth, job.cin * job.taps);
  // About as many output channels again; further ones gather the same inputs once more, at 1/200 of the products' cost.
  job.width = std::min(round_up(job.cout, panel), panel * int64_t(sizeof(T) == 4 ? 4 : 8));
  if (job.stacked) job.width = round_up(job.out_slots * job.cout, panel);  // pixels are written whole
  const int64_t pixels = job.batch * job.out_h * job.out_w;
  int64_t tile = kTileBytes / static_cast<int64_t>(sizeof(T)) / (job.rank * (job.depth + job.width));
  tile = std::clamp<int64_t>(tile / 24 * 24, 24, 192);  // whole blocks of 4, 6 or 8 rows (product.h: ROWS)
  // Small maps: at least two tiles per thread.
  job.tile = std::min<int64_t>(tile, round_up(ceil_div(pixels, 2 * torch::stable::get_num_threads()), 8));
}

template <typename T>
void set_tiles(SpreadJob<T>& job, const Kernels<T>& k) {
  const int64_t threads = torch::stable::get_num_threads();
  // Rows of V are kept while they are needed: narrow enough that k + 1 of them fit.
  job.columns = job.out_w <= 96 ? job.out_w : ceil_div(job.out_w, ceil_div(job.out_w, 64));
  job.step = std::clamp<int64_t>(48 / job.in_w, 1, job.in_h);  // narrow maps: enough pixels to use a panel for
  const auto too_large = [&] { return k.spread_scratch(job) * static_cast<int64_t>(sizeof(T)) > kScratchBytes; };
  while (job.step > 1 && too_large()) --job.step;
  while (job.columns > 1 && too_large()) job.columns = ceil_div(job.columns, 2);
  const int64_t across = ceil_div(job.out_w, job.columns);
  // Each item computes the rows above and below its own once more: many rows, but at least two items per thread.
  const int64_t down = std::clamp<int64_t>(ceil_div(2 * threads, job.batch * across), 1, ceil_div(job.out_h, 4));
  job.rows = ceil_div(job.out_h, std::max(down, ceil_div(job.out_h, 64)));
}

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
void set_rows(Depthwise<T>& job, int64_t lanes) {
  // Few enough for a vector of channels of what they read to stay in cache, and all blocks of rows alike.
  const int64_t row = job.in_slots * job.cosets * job.in_w * lanes * sizeof(T);
  const int64_t most = std::clamp<int64_t>(kDepthwiseBytes / row * job.div_h / job.mul_h, 1, kDepthwiseRows);
  job.rows = ceil_div(job.out_h, ceil_div(job.out_h, most));
}

template <typename T>
void set_columns(Lifting<T>& job) {
  // Runs whose taps, inputs and outputs stay in the caches of one core.
  const int64_t sums = job.rank > 1 ? job.order : 1;
  const int64_t most = kRunBytes / ((2 * job.taps * job.cin + sums * job.cout) * sizeof(T));
  // Equal shares of a row, but whole cache lines, so that stores of most maps are aligned.
  job.columns = round_up(ceil_div(job.out_w, ceil_div(job.out_w, std::max<int64_t>(most, 24))), 16);
}

// Parts of the pixels for the threads, as many for any number of threads; `size` is what the products of a part take.
template <template <typename> typename Job, typename T>
int64_t parts_of(const Job<T>& job, int64_t size) {
  const int64_t pixels = job.batch * job.out_h * job.out_w, bytes = size * sizeof(T);
  return std::clamp<int64_t>(std::min(pixels / kPartPixels, kPartBytes / bytes), 1, 16);
}

template <typename T>
void set_tiles(WeightGradJob<T>& job, int64_t lanes) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t pixels = job.batch * job.out_h * job.out_w;
  job.group = job.parts = 1;
  job.block = job.cin;
  if (job.cin < lanes) {
    // Channels that fill no vector: all taps together, parts of the pixels. Where pixels are few or products are large: a
    // share of the taps for each thread.
    job.parts = parts_of(job, job.rank * job.taps * job.cin * (job.stacked ? job.out_slots : 1) * job.cout);
    job.group = job.parts > 1 ? job.taps : ceil_div(job.taps, std::min(job.taps, threads));
  } else {
    // Blocks of about 32 channels; more of them where that divides the work better.
    const int64_t unit = job.swapped ? lanes : 1, units = ceil_div(job.cin, unit);
    int64_t blocks = ceil_div(job.cin, job.swapped ? 48 : 32);
    while (job.taps * blocks % threads != 0 && job.taps * blocks < 16 * threads && blocks * 4 < units) ++blocks;
    job.block = ceil_div(units, blocks) * unit;
  }
  const int64_t grad_bytes = job.rank * (job.stacked ? job.out_slots : 1) * job.cout * sizeof(T);
  const int64_t pixel_bytes = grad_bytes + job.in_slots * job.cin * sizeof(T);
  job.tile = std::max<int64_t>(std::min({int64_t(96), pixels, kScratchBytes / grad_bytes}), 1);
  const int64_t most = std::min(ceil_div(pixels, job.tile), std::max(kScratchBytes / grad_bytes / job.tile, int64_t(1)));
  job.span = std::min(std::max(kSpanBytes / pixel_bytes / job.tile, int64_t(4)), most) * job.tile;
  job.parts = ceil_div(pixels, round_up(ceil_div(pixels, job.parts), job.tile));  // none without pixels
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
  std::fill_n(packed.get(), job.width % job.columns ? sets * job.set_size : 0, T(0));  // the padding of columns
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

// The products of all parts, added in order in the place of the first one's.
template <template <typename> typename Job, typename T>
const T* add_parts(const Job<T>& job) {
  for (int64_t part = 1; part < job.parts; ++part)
    for (int64_t i = 0; i < job.products_size; ++i) job.products[i] += job.products[part * job.products_size + i];
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

// y(p) = bias + sum over taps of the correlation of W_tap with x(g, place of p)       (jobs.h: GatherJob), or, if `spread`,
// y(h, p) = bias + sum over taps of the correlation of W_tap with x, at (h, place of p)         (jobs.h: SpreadJob).
//
// x, y: maps in channels_last_3d. weight: [Cout, Cin, S, k, k], contiguous; if `backward`, x has Cout channels and y Cin.
// shifts: int32 [taps, slots, 2]. sources: int64 [taps, n], where W_tap(u) is found among a filter's S * k * k entries.
// matrix: [rank, n], the filters' transform. place = (pixel * mul + shift) / div.
void conv(const Tensor& x, const Tensor& weight, std::optional<Tensor> bias, bool backward, bool spread, bool stacked,
          const Tensor& shifts, const Tensor& sources, const Tensor& matrix, int64_t mul_h, int64_t mul_w,
          int64_t div_h, int64_t div_w, const Tensor& y) {
  const Tables tables{shifts, sources, matrix, mul_h, mul_w, div_h, div_w, backward, stacked};
  if (x.size(0) == 0) return;
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>();
    const Correlation<T> job = correlation<T>(x, y, tables);
    const Buffer<T> packed = pack(weight, 1, tables, spread, k);
    const T* bias_data = bias ? data<const T>(*bias) : nullptr;
    if (spread) {
      SpreadJob<T> todo{job, packed.get(), bias_data, data<T>(y), 0, 0, 0};
      set_tiles(todo, k);
      const int64_t items = job.batch * ceil_div(job.out_h, todo.rows) * ceil_div(job.out_w, todo.columns);
      run<SpreadJob<T>, T>(todo, items, k.spread_scratch(todo), k.spread);
    } else {
      GatherJob<T> todo{job, packed.get(), bias_data, data<T>(y), 0, 0, 0};
      set_tiles(todo, k.panel);
      const int64_t widths = stacked ? 1 : ceil_div(job.cout, todo.width);
      const int64_t items = ceil_div(job.batch * job.out_h * job.out_w, todo.tile) * widths;
      run<GatherJob<T>, T>(todo, items, k.gather_scratch(todo), k.gather);
    }
  });
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

template <typename T>
Depthwise<T> depthwise_of(const Tensor& x, const Tensor& y, int64_t cosets, const Tables& tables, const Kernels<T>& k) {
  Depthwise<T> job{correlation<T>(x, y, tables), cosets, 0, 0};
  job.in_slots /= cosets;
  job.out_slots /= cosets;
  job.places = tables.shifts.numel() / 2;
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
  const Tables tables{shifts, table, table, mul_h, mul_w, div_h, div_w, false, true};
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

template <typename T>
Linear<T> linear_of(const Tensor& x, int64_t cout, const Tables& tables) {
  Linear<T> job{x.size(2), tables.matrix.size(0), x.size(0), x.size(1), cout, data<const T>(x), 0, 0};
  // As in gather: about 200 channels for each pass over the sums, and as many tokens as the cache holds.
  job.depth = ceil_div(job.cin, ceil_div(job.cin, 192));
  const int64_t tile = kTileBytes / static_cast<int64_t>(sizeof(T)) / (job.rank * (job.depth + cout));
  job.tile = std::clamp<int64_t>(tile / 24 * 24, 24, 192);
  job.tile = std::min<int64_t>(job.tile, round_up(ceil_div(job.tokens, 2 * torch::stable::get_num_threads()), 8));
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
    const LinearJob<T> job{linear_of<T>(x, y.size(1), tables), packed.get(), bias ? data<const T>(*bias) : nullptr,
                           data<T>(y)};
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
    job.parts = std::clamp<int64_t>(
        std::min(job.tokens / kPartPixels, kPartBytes / (job.products_size * int64_t(sizeof(T)))), 1, 16);
    job.parts = std::min(job.parts, ceil_div(job.tokens, job.tile));
    // Products too large for parts: blocks of channels for the threads, each of which transforms the gradient.
    const int64_t blocks = std::min(ceil_div(torch::stable::get_num_threads(), job.parts), ceil_div(job.cin, 32));
    job.depth = std::min(job.depth, ceil_div(job.cin, blocks));
    const Buffer<T> products(job.parts * job.products_size);
    job.products = products.get();
    run<LinearGradJob<T>, T>(job, job.parts * ceil_div(job.cin, job.depth), k.linear_scratch(job), k.linear_weight_grad);
    unpack(job, filters, 1, weight_grad, k);
  });
}

// The gradient of conv (gathering) with respect to the weight. grad has the shape of y, and at least one pixel.
void conv_weight_grad(const Tensor& grad, const Tensor& x, bool backward, bool stacked, const Tensor& shifts,
                      const Tensor& sources, const Tensor& matrix, int64_t mul_h, int64_t mul_w, int64_t div_h,
                      int64_t div_w, const Tensor& weight_grad) {
  const Tables tables{shifts, sources, matrix, mul_h, mul_w, div_h, div_w, backward, stacked};
  dispatch_computed(x, [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& k = kernels<T>();
    WeightGradJob<T> job{correlation<T>(x, grad, tables), data<const T>(grad), nullptr, false, 1, 0, 0, 0, 0, 0};
    set_tiles(job, k.lanes);
    // Vectors lie along the channels that fill them better.
    const int64_t gathered = job.group * job.cin;
    job.swapped = !stacked && job.cout * round_up(gathered, k.lanes) < gathered * round_up(job.cout, k.lanes);
    set_tiles(job, k.lanes);

    FilterJob<T> filters = filter_job<T>(weight_grad, 1, backward != job.swapped, tables);
    (job.swapped ? filters.tap_column : filters.tap_row) = job.cin;
    filters.q_column = stacked ? job.cout : 0;
    filters.group = job.group;
    filters.width = round_up(job.swapped ? gathered : stacked ? job.out_slots * job.cout : job.cout, k.lanes);
    const int64_t matrix_size = (job.swapped ? job.cout : gathered) * filters.width;
    filters.q_step = stacked ? 0 : matrix_size;
    filters.group_step = job.rank * matrix_size;
    job.products_size = ceil_div(job.taps, job.group) * filters.group_step;
    const Buffer<T> products(job.parts * job.products_size + k.lanes);
    job.products = products.get();
    const int64_t items = job.parts * ceil_div(job.taps, job.group) * ceil_div(job.cin, job.block);
    run<WeightGradJob<T>, T>(job, items, k.weight_grad_scratch(job), k.weight_grad);
    unpack(job, filters, 1, weight_grad, k);
  });
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  m.def(
      "conv(Tensor x, Tensor weight, Tensor? bias, bool backward, bool spread, bool stacked, Tensor shifts, "
      "Tensor sources, Tensor matrix, int mul_h, int mul_w, int div_h, int div_w, Tensor(a!) y) -> ()");
  m.def(
      "planar(Tensor x, Tensor weight, Tensor? bias, int groups, int cosets, bool backward, Tensor shifts, Tensor sources, "
      "Tensor matrix, int mul_h, int mul_w, int div_h, int div_w, Tensor(a!) y) -> ()");
  m.def(
      "planar_weight_grad(Tensor grad, Tensor x, int groups, int cosets, bool backward, Tensor shifts, Tensor sources, "
      "Tensor matrix, int mul_h, int mul_w, Tensor(a!) weight_grad) -> ()");
  m.def(
      "depthwise(Tensor x, Tensor filters, Tensor? bias, Tensor table, Tensor shifts, int mul_h, int mul_w, int div_h, "
      "int div_w, Tensor(a!) y) -> ()");
  m.def(
      "depthwise_weight_grad(Tensor grad, Tensor x, Tensor table, Tensor shifts, int mul_h, int mul_w, "
      "Tensor(a!) filters_grad) -> ()");
  m.def(
      "depthwise_fourier(Tensor x, Tensor weight, Tensor? bias, int cosets, bool backward, Tensor shifts, Tensor sources, "
      "Tensor matrix, int mul_h, int mul_w, int div_h, int div_w, Tensor(a!) y) -> ()");
  m.def(
      "depthwise_fourier_weight_grad(Tensor grad, Tensor x, int cosets, Tensor shifts, Tensor sources, Tensor matrix, "
      "int mul_h, int mul_w, Tensor(a!) weight_grad) -> ()");
  m.def(
      "lift(Tensor x, Tensor weight, Tensor? bias, Tensor shifts, Tensor basis, Tensor starts, Tensor inputs, "
      "Tensor taps, Tensor matrix, int mul_h, int mul_w, Tensor(a!) y) -> ()");
  m.def(
      "lift_weight_grad(Tensor grad, Tensor x, Tensor shifts, Tensor basis, Tensor starts, Tensor inputs, Tensor taps, "
      "Tensor matrix, int mul_h, int mul_w, Tensor(a!) weight_grad) -> ()");
  m.def(
      "linear(Tensor x, Tensor weight, Tensor? bias, bool backward, Tensor sources, Tensor matrix, Tensor(a!) y) -> ()");
  m.def("linear_weight_grad(Tensor grad, Tensor x, Tensor sources, Tensor matrix, Tensor(a!) weight_grad) -> ()");
  m.def(
      "conv_weight_grad(Tensor grad, Tensor x, bool backward, bool stacked, Tensor shifts, Tensor sources, "
      "Tensor matrix, int mul_h, int mul_w, int div_h, int div_w, Tensor(a!) weight_grad) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("conv", TORCH_BOX(&conv));
  m.impl("planar", TORCH_BOX(&planar));
  m.impl("planar_weight_grad", TORCH_BOX(&planar_weight_grad));
  m.impl("depthwise", TORCH_BOX(&depthwise));
  m.impl("depthwise_weight_grad", TORCH_BOX(&depthwise_weight_grad));
  m.impl("depthwise_fourier", TORCH_BOX(&depthwise_fourier));
  m.impl("depthwise_fourier_weight_grad", TORCH_BOX(&depthwise_fourier_weight_grad));
  m.impl("lift", TORCH_BOX(&lift));
  m.impl("lift_weight_grad", TORCH_BOX(&lift_weight_grad));
  m.impl("linear", TORCH_BOX(&linear));
  m.impl("linear_weight_grad", TORCH_BOX(&linear_weight_grad));
  m.impl("conv_weight_grad", TORCH_BOX(&conv_weight_grad));
}
