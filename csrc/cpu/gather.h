// The group convolution, gathering. Included like product.h.
//
// For one tap t let Z_t(g) = x(g, p + g t) and W_t(u) = w[u, u t]. Since H permutes (slot, tap) pairs freely,
//
//     y(h, p) = sum over taps t and channels of sum_g W_t(h^-1 g) Z_t(g),
//
// one group correlation per tap, and bilinear.h turns each into `rank` products. So for a tile of pixels:
// gather |H| shifted values, transform them by additions, multiply by the transformed filters as `rank` matrix products
// [pixels, taps x cin] x [taps x cin, cout], and transform the sums back once. Nothing leaves the cache between these.

// Columns of the product: output channels, or those of all slots.
template <typename T>
GCNN_INLINE int64_t output_columns(const Correlation<T>& job) {
  return job.stacked ? job.out_slots * job.cout : job.cout;
}

// Scratch: a row of zeros; the transformed tile; the sums; collected channels; the pixels.
template <typename T>
struct GatherScratch {
  int64_t zeros, a_row, a_step, s_row, s_step, collected;

  explicit GatherScratch(const GatherJob<T>& job)
      : zeros(padded(job.cin, LANES<T>)),
        a_row(scratch_row<T>(job.depth)),
        a_step(job.tile * a_row),
        s_row(padded(smaller(job.width, output_columns(job)), LANES<T>)),
        s_step(job.tile * s_row),
        collected(gather_taps_scratch(job, job.tile, a_row)) {}
};

template <typename T>
static int64_t gather_scratch(const GatherJob<T>& job) {
  const GatherScratch<T> sizes(job);
  return sizes.zeros + job.rank * (sizes.a_step + sizes.s_step) + sizes.collected + scratch_of<Pixel, T>(job.tile);
}

// y = C sums + bias, for channels n0 .. n0 + count - 1.
template <typename G, typename T>
static void transform_output(const GatherJob<T>& job, int64_t n0, int64_t count, const Pixel* pixels, int64_t size,
                             const T* sums, int64_t row, int64_t step) {
  const int64_t slot = job.out_h * job.out_w * job.cout;
  for (int64_t m = 0; m < size; ++m, sums += row) {
    T* y = job.y + pixels[m].image * G::out_slots * slot + pixels[m].index * job.cout + n0;
    for_channels<T>(count, [&](int64_t c, auto zero) __attribute__((always_inline)) {
      using V = decltype(zero);
      V p[G::rank], out[G::out_slots], bias{};
      if (job.bias) load(bias, job.bias + n0 + c);
#pragma GCC unroll 16
      for (int q = 0; q < G::rank; ++q) load(p[q], sums + q * step + c);
      G::output(p, out);
#pragma GCC unroll 8
      for (int h = 0; h < G::out_slots; ++h) store(y + h * slot + c, out[h] + bias);
    });
  }
}

// y(h) = the h-th part of a pixel's sums + bias.
template <typename G, typename T>
static void unstack(const GatherJob<T>& job, const Pixel* pixels, int64_t size, const T* sums, int64_t row) {
  const int64_t image_size = job.out_h * job.out_w, slot = image_size * job.cout;
  for (int64_t m = 0, run; m < size; m += run) {
    run = smaller(size - m, image_size - pixels[m].index);
    for (int h = 0; h < G::out_slots; ++h) {
      const T* from = sums + m * row + h * job.cout;
      T* y = job.y + (pixels[m].image * G::out_slots + h) * slot + pixels[m].index * job.cout;
      for_channels<T>(job.cout, [&](int64_t c, auto v) __attribute__((always_inline)) {
        decltype(v) bias{};
        if (job.bias) load(bias, job.bias + c);
        for (int64_t i = 0; i < run; ++i) {
          load(v, from + i * row + c);
          store(y + i * job.cout + c, v + bias);
        }
      });
    }
  }
}

// One item: a tile of pixels and a range of output channels.
template <typename G, typename T>
static void gather_item(const GatherJob<T>& job, int64_t item, T* scratch) {
  const int64_t total = job.batch * job.out_h * job.out_w, outputs = output_columns(job);
  const int64_t widths = ceil_div(outputs, job.width);
  const int64_t first = item / widths * job.tile, size = smaller(job.tile, total - first);
  const int64_t n0 = item % widths * job.width, count = smaller(job.width, outputs - n0);
  const int64_t depth = job.taps * job.cin, columns = padded(outputs, LANES<T>);
  const auto [zeros_size, a_row, a_step, s_row, s_step, collected_size] = GatherScratch<T>(job);
  T* zeros = scratch;
  T* a = zeros + zeros_size;
  T* sums = a + G::rank * a_step;
  T* collected = sums + G::rank * s_step;
  Pixel* pixels = reinterpret_cast<Pixel*>(collected + collected_size);
  clear(zeros, zeros_size);
  if (collected_size) clear(collected, collected_size);  // its padding is transformed too
  find_pixels(job, first, size, pixels);

  for (int64_t k0 = 0, k1; k0 < depth; k0 = k1) {
    // One pass: a part of one tap's channels, or several whole taps.
    if (job.depth < job.cin) {
      k1 = smaller(k0 + job.depth, (k0 / job.cin + 1) * job.cin);
      gather_input<G>(job, k0 / job.cin, k0 % job.cin, k1 - k0, pixels, size, zeros, a, a_row, a_step);
    } else {
      k1 = smaller(k0 + job.depth / job.cin * job.cin, depth);
      gather_taps<G>(job, k0 / job.cin, (k1 - k0) / job.cin, pixels, size, zeros, a, a_row, a_step, collected);
    }
    for (int q = 0; q < G::rank; ++q)
      for (int64_t n = 0; n < count; n += PANEL<T>) {
        const int64_t vectors = smaller(PANEL_VECTORS, ceil_div(count - n, LANES<T>)), panel = vectors * LANES<T>;
        const T* filters = job.filters + q * depth * columns + (n0 + n) * depth + k0 * panel;
        panel_product(vectors, size, k1 - k0, a + q * a_step, a_row, int64_t(1), filters, panel,
                      sums + q * s_step + n, s_row, k0 > 0);
      }
  }

  if constexpr (G::stacked)
    unstack<G>(job, pixels, size, sums, s_row);
  else
    transform_output<G>(job, n0, count, pixels, size, sums, s_row, s_step);
}

template <typename G, typename T>
static void gather_items(const GatherJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  for (int64_t item = begin; item < end; ++item) gather_item<G>(job, item, scratch);
}
