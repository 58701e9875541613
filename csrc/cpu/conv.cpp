// The operators of dense convolutions: sizes of tiles, and calls of the kernels of gather.h, spread.h and weight_grad.h.

#include "calls.h"

namespace {

// The span of pixels that the weight gradient works on: input and transformed output gradient are read once per tap and
// block of channels, so they should stay in cache, but not at the price of less than a few tiles.
constexpr int64_t kSpanBytes = 2 << 20;
// A tile of gathered pixels stays in a second-level cache, with room for what else is there.
constexpr int64_t kGatheredBytes = 512 << 10;
// Below that many channels, taps are gathered together: their rows fill whole vectors.
constexpr int64_t kGroupedChannels = 60;
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
  job.tile = for_threads(tile_of<T>(job.rank * (job.depth + job.width)), job.batch * job.out_h * job.out_w);
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

template <typename T>
void set_tiles(WeightGradJob<T>& job, int64_t lanes) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t pixels = job.batch * job.out_h * job.out_w;
  job.group = job.parts = 1;
  job.block = job.cin;
  const int64_t parts = parts_of(job, job.rank * job.taps * job.cin * (job.stacked ? job.out_slots : 1) * job.cout);
  const bool narrow = job.cin < lanes;
  if (narrow || (parts > 1 && (job.cin < kGroupedChannels || job.taps == 1))) {
    // Parts of the pixels, and many taps together, whose channels fill vectors better than those of one. Where pixels are
    // few or products are large: a share of the taps for each thread.
    job.parts = parts;
    job.group = parts > 1 ? ceil_div(job.taps, narrow ? 1 : 2) : ceil_div(job.taps, std::min(job.taps, threads));
  } else {
    // Blocks of about 32 channels; more of them where that divides the work better.
    const int64_t unit = job.swapped ? lanes : 1, units = ceil_div(job.cin, unit);
    int64_t blocks = ceil_div(job.cin, job.swapped ? 48 : 32);
    while (job.taps * blocks % threads != 0 && job.taps * blocks < 16 * threads && blocks * 4 < units) ++blocks;
    job.block = ceil_div(units, blocks) * unit;
  }
  const int64_t grad_bytes = job.rank * (job.stacked ? job.out_slots : 1) * job.cout * sizeof(T);
  const int64_t pixel_bytes = grad_bytes + job.in_slots * job.cin * sizeof(T);
  const int64_t gathered_bytes = job.rank * job.group * job.block * sizeof(T);
  job.tile = std::min({int64_t(96), pixels, kScratchBytes / grad_bytes, kGatheredBytes / gathered_bytes});
  job.tile = std::max<int64_t>(job.tile, 1);
  const int64_t most = std::min(ceil_div(pixels, job.tile), std::max(kScratchBytes / grad_bytes / job.tile, int64_t(1)));
  job.span = std::min(std::max(kSpanBytes / pixel_bytes / job.tile, int64_t(4)), most) * job.tile;
  job.parts = ceil_div(pixels, round_up(ceil_div(pixels, job.parts), job.tile));  // none without pixels
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
      "conv_weight_grad(Tensor grad, Tensor x, bool backward, bool stacked, Tensor shifts, Tensor sources, "
      "Tensor matrix, int mul_h, int mul_w, int div_h, int div_w, Tensor(a!) weight_grad) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CPU, m) {
  m.impl("conv", TORCH_BOX(&conv));
  m.impl("conv_weight_grad", TORCH_BOX(&conv_weight_grad));
}
