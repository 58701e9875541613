// The gradient of the group convolution with respect to the filters. Included like product.h.
//
// Per tap and product of the bilinear algorithm it is a matrix, sum over pixels of (A z)(C^T y')^T: gathered and transformed
// input times transformed output gradient. An item is a tap and a block of input channels; a thread transforms a span of
// the output gradient once and uses it for all of its items. Every item belongs to one thread, which adds its pixels in
// order, and parts are added in order: the result does not depend on the number of threads.

// Whether a tile is gathered as one row, without gaps between pixels: worth it where channels do not fill vectors.
template <typename T>
GCNN_INLINE bool gathers_pixels(const WeightGradJob<T>& job) {
  return is_pointwise(job) && job.block == job.cin && job.cin % LANES<T> != 0;
}

// Scratch: a row of zeros; the transformed tile; the transformed span of the gradient; collected channels; the pixels.
template <typename T>
struct WeightGradScratch {
  int64_t zeros, a_row, a_step, d_row, d_step, collected;

  explicit WeightGradScratch(const WeightGradJob<T>& job)
      : zeros(padded(job.cin, LANES<T>)),
        a_row(gathers_pixels(job) ? job.cin : scratch_row<T>(job.group * job.block)),
        a_step(padded(job.tile * a_row + LANES<T>, LANES<T>)),
        d_row(output_columns(job)),
        d_step(scratch_row<T>(job.span * d_row + LANES<T>)),
        collected(gather_taps_scratch(job, job.tile, a_row)) {}
};

template <typename T>
static int64_t weight_grad_scratch(const WeightGradJob<T>& job) {
  const WeightGradScratch<T> sizes(job);
  return sizes.zeros + job.rank * (sizes.a_step + sizes.d_step) + sizes.collected + scratch_of<Pixel, T>(job.span);
}

// to[q * step + m * cout + c] = the q-th entry of C^T grad(pixel m)[c]; the pixels of one image are one row. If stacked:
// to[(m * slots + h) * cout + c].
template <typename G, typename T>
static void transform_grad(const WeightGradJob<T>& job, const Pixel* pixels, int64_t size, T* to, int64_t step) {
  const int64_t image_size = job.out_h * job.out_w, slot = image_size * job.cout;
  for (int64_t m = 0, run; m < size; m += run) {
    run = smaller(size - m, image_size - pixels[m].index);
    const T* grad = job.grad + pixels[m].image * G::out_slots * slot + pixels[m].index * job.cout;
    if constexpr (G::stacked) {
      for (int h = 0; h < G::out_slots; ++h)
        for_channels<T>(job.cout, [&](int64_t c, auto v) __attribute__((always_inline)) {
          for (int64_t i = 0; i < run; ++i) {
            load(v, grad + h * slot + i * job.cout + c);
            store(to + ((m + i) * G::out_slots + h) * job.cout + c, v);
          }
        });
    } else {
      map_slots<G::out_slots, G::rank>(grad, slot, run * job.cout, to + m * job.cout, step, [](const auto& y, auto& p)
                                       __attribute__((always_inline)) { G::output_adjoint(y, p); });
    }
  }
}

// One item's products with one tile: [(tap, channel), columns], or [cout, (tap, channel)] if swapped.
template <typename T>
static void weight_grad_tile(const WeightGradJob<T>& job, const WeightGradScratch<T>& sizes, int64_t group, int64_t c,
                             int64_t count, int64_t size, const T* a, const T* d, T* products, bool add) {
  const int64_t gathered = job.group * job.cin, columns = padded(job.swapped ? gathered : sizes.d_row, LANES<T>);
  const int64_t rows = job.swapped ? job.cout : gathered, wide = job.swapped ? padded(count, LANES<T>) : columns;
  products += group * job.rank * rows * columns + (job.swapped ? c : c * columns);
  for (int64_t q = 0; q < job.rank; ++q, a += sizes.a_step, d += sizes.d_step, products += rows * columns) {
    const bool more = q + 1 < job.rank;
    for (int64_t n = 0; n < wide; n += PANEL<T>) {
      const int64_t vectors = smaller(PANEL_VECTORS, (wide - n) / LANES<T>);
      if (job.swapped)
        panel_product(vectors, rows, size, d, int64_t(1), sizes.d_row, a + n, sizes.a_row, products + n, columns, add,
                      more ? a + sizes.a_step + n : nullptr);
      else
        panel_product(vectors, count, size, a, int64_t(1), sizes.a_row, d + n, sizes.d_row, products + n, columns, add,
                      more ? d + sizes.d_step + n : nullptr);
    }
  }
}

template <typename G, typename T>
static void weight_grad_items(const WeightGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const int64_t blocks = ceil_div(job.cin, job.block), total = job.batch * job.out_h * job.out_w;
  const int64_t items = ceil_div(job.taps, job.group) * blocks, part_size = padded(ceil_div(total, job.parts), job.tile);
  const WeightGradScratch<T> sizes(job);
  T* zeros = scratch;
  T* a = zeros + sizes.zeros;
  T* d = a + G::rank * sizes.a_step;
  T* collected = d + G::rank * sizes.d_step;
  Pixel* pixels = reinterpret_cast<Pixel*>(collected + sizes.collected);
  clear(zeros, weight_grad_scratch(job) - scratch_of<Pixel, T>(job.span));  // padding is multiplied too

  for (int64_t part = begin / items; part * items < end; ++part) {
    const int64_t start = part * part_size, stop = smaller(start + part_size, total);
    const int64_t from = larger(begin - part * items, 0), to = smaller(end - part * items, items);
    T* products = job.products + part * job.products_size;
    for (int64_t first = start; first < stop; first += job.span) {
      const int64_t span = smaller(job.span, stop - first);
      find_pixels(job, first, span, pixels);
      transform_grad<G>(job, pixels, span, d, sizes.d_step);
      for (int64_t item = from; item < to; ++item) {
        const int64_t group = item / blocks, tap = group * job.group, taps = smaller(job.group, job.taps - tap);
        const int64_t c = item % blocks * job.block, count = smaller(job.block, job.cin - c);
        for (int64_t m = 0; m < span; m += job.tile) {
          const int64_t size = smaller(job.tile, span - m);
          if (job.group > 1)
            gather_taps<G>(job, tap, taps, pixels + m, size, zeros, a, sizes.a_row, sizes.a_step, collected);
          else if (gathers_pixels(job))
            gather_pixels<G>(job, pixels + m, size, a, sizes.a_step);
          else
            gather_input<G>(job, tap, c, count, pixels + m, size, zeros, a, sizes.a_row, sizes.a_step);
          weight_grad_tile(job, sizes, group, c, taps * count, size, a, d + m * sizes.d_row, products, first + m > start);
        }
      }
    }
  }
}
