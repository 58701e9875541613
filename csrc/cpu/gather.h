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

// Whether an item's sums are rows of y without gaps: one pass and one item compute all channels of a pixel. A last vector
// that channels do not fill goes over the next pixel's, which are stored later.
template <typename T>
GCNN_INLINE bool sums_are_rows(const GatherJob<T>& job) {
  return !job.stacked && job.width >= job.cout && job.depth >= job.taps * job.cin;
}

// Scratch: a row of zeros; the transformed tile; the sums; collected channels; the bias of a row of y; the pixels.
template <typename T>
struct GatherScratch {
  int64_t zeros, a_row, a_step, s_row, s_step, collected, bias;

  explicit GatherScratch(const GatherJob<T>& job)
      : zeros(padded(job.cin, LANES<T>)),
        a_row(is_pointwise(job) && job.depth == job.cin ? job.cin : scratch_row<T>(job.depth)),
        a_step(padded(job.tile * a_row, LANES<T>)),
        s_row(sums_are_rows(job) ? job.cout : padded(smaller(job.width, output_columns(job)), LANES<T>)),
        s_step(padded(job.tile * s_row + LANES<T>, LANES<T>)),
        collected(gather_taps_scratch(job, job.tile, a_row)),
        bias(sums_are_rows(job) ? padded(job.tile * job.cout, LANES<T>) : 0) {}
};

template <typename T>
static int64_t gather_scratch(const GatherJob<T>& job) {
  const GatherScratch<T> sizes(job);
  return sizes.zeros + job.rank * (sizes.a_step + sizes.s_step) + sizes.collected + sizes.bias +
         scratch_of<Pixel, T>(job.tile);
}

// y = C sums + bias, for channels n0 .. n0 + count - 1.
template <typename G, typename T>
static void transform_output(const GatherJob<T>& job, int64_t n0, int64_t count, const Pixel* pixels, int64_t size,
                             const T* sums, int64_t row, int64_t step, const T* bias) {
  const int64_t image_size = job.out_h * job.out_w, slot = image_size * job.cout;
  const bool rows = sums_are_rows(job);
  for (int64_t m = 0, run; m < size; m += run) {
    run = rows ? smaller(size - m, image_size - pixels[m].index) : 1;
    const T* from = sums + m * row;
    T* y = job.y + pixels[m].image * G::out_slots * slot + pixels[m].index * job.cout + n0;
    for_channels<T>(run * count, [&](int64_t c, auto zero) __attribute__((always_inline)) {
      using V = decltype(zero);
      V p[G::rank], out[G::out_slots], add{};
      if (bias) load(add, bias + c);
      load_steps(p, from + c, step);
      G::output(p, out);
#pragma GCC unroll 8
      for (int h = 0; h < G::out_slots; ++h) out[h] += add;
      store_steps(y + c, slot, out);
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
  const int64_t depth = job.taps * job.cin, columns = padded(outputs, LANES<T>), panels = ceil_div(count, PANEL<T>);
  const auto [zeros_size, a_row, a_step, s_row, s_step, collected_size, bias_size] = GatherScratch<T>(job);
  T* zeros = scratch;
  T* a = zeros + zeros_size;
  T* sums = a + G::rank * a_step;
  T* collected = sums + G::rank * s_step;
  T* bias = collected + collected_size;
  Pixel* pixels = reinterpret_cast<Pixel*>(bias + bias_size);
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
    // The panels of all q, the last one of each first.
    const auto start = [&](int64_t p) { return (panels - 1 - p % panels) * PANEL<T>; };
    const auto width = [&](int64_t p) { return smaller(PANEL_VECTORS, ceil_div(count - start(p), LANES<T>)) * LANES<T>; };
    const auto filters = [&](int64_t p) {
      return job.filters + p / panels * depth * columns + (n0 + start(p)) * depth + k0 * width(p);
    };
    for (int64_t p = 0; p < G::rank * panels; ++p)
      panel_product(width(p) / LANES<T>, size, k1 - k0, a + p / panels * a_step, a_row, int64_t(1), filters(p), width(p),
                    sums + p / panels * s_step + start(p), s_row, k0 > 0, p + 1 < G::rank * panels ? filters(p + 1) : nullptr);
  }

  if constexpr (G::stacked) {
    unstack<G>(job, pixels, size, sums, s_row);
  } else {
    if (bias_size && job.bias)
      for (int64_t m = 0; m < size; ++m) copy(job.bias, job.cout, bias + m * job.cout);
    const T* from = !job.bias ? nullptr : bias_size ? bias : job.bias + n0;
    transform_output<G>(job, n0, count, pixels, size, sums, s_row, s_step, from);
  }
}

template <typename G, typename T>
static void gather_items(const GatherJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  for (int64_t item = begin; item < end; ++item) gather_item<G>(job, item, scratch);
}
