// Depthwise group convolutions in the basis of the irreducible representations. Included like product.h.
//
// A map convolved by itself is a sum over taps of correlations on the group, and in the basis of bilinear.h each of them takes
// 6 (C4) or 12 (D4) products instead of 16 or 64, after 6 or 24 additions. Vectors lie along channels. The entries are neither
// packed nor stored: the sums of a few pixels stay in registers over all taps.

// Sums that registers hold beside a transformed pixel. They are shared among cosets that are computed together, and pixels.
constexpr int DEPTHWISE_SUMS = GCNN_VECTOR_BYTES == 64 ? 16 : 8;

// Scratch: the window; as many zeros as one slot has there, for places that are no whole numbers; the output gradient's
// transform; bias; pointers.
template <typename T>
struct DepthwiseScratch {
  int64_t x, zeros, grad, reads;

  explicit DepthwiseScratch(const Depthwise<T>& job, bool with_grad = false) {
    x = window_scratch(job);
    zeros = job.div_h * job.div_w > 1 ? x / (job.in_slots * job.cosets) : 0;
    grad = with_grad ? job.out_slots * job.cosets * job.rows * job.out_w * LANES<T> : 0;
    reads = scratch_of<const T*, T>(job.taps * job.cosets * (job.in_slots + 1));
  }

  int64_t total() const { return x + zeros + grad + LANES<T> + reads; }
};

template <typename T>
static int64_t depthwise_scratch(const DepthwiseJob<T>& job) {
  return DepthwiseScratch<T>(job).total();
}

template <typename T>
static int64_t depthwise_grad_scratch(const DepthwiseGradJob<T>& job) {
  return DepthwiseScratch<T>(job, true).total();
}

// What a pixel reads, tap by tap and coset by coset: a place in the window for each slot, and the transform of a filter, of
// vectors `step` apart. The next coset of y has its filters `set` further.
template <typename T>
struct DepthwiseReads {
  const T **places, **filters;
  int64_t count, step, set;
};

template <typename G, typename T>
GCNN_INLINE void read_transformed(const T* const* places, int64_t at, Vector<T> (&f)[G::sums]) {
  Vector<T> z[G::in_slots];
#pragma GCC unroll 8
  for (int g = 0; g < G::in_slots; ++g) load(z[g], places[g] + at);
  G::analyse(z, f);
}

// `Pixels` pixels, x_step apart in the window and y_step in y, and `Together` cosets of y.
template <typename G, int Pixels, int Together, typename T>
static void depthwise_pixels(const Depthwise<T>& job, const DepthwiseReads<T>& reads, int64_t at, int64_t x_step,
                             const T* bias, T* y, int64_t y_step, int64_t lanes) {
  using V = Vector<T>;
  V sums[Pixels][Together][G::sums];
#pragma GCC unroll 4
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 2
    for (int o = 0; o < Together; ++o) {
      load(sums[p][o][0], bias);  // every slot's output contains the first entry once
#pragma GCC unroll 8
      for (int k = 1; k < G::sums; ++k) sums[p][o][k] = V{};
    }
  for (int64_t n = 0; n < reads.count; ++n) {
    V f[Pixels][G::sums];
#pragma GCC unroll 4
    for (int p = 0; p < Pixels; ++p) read_transformed<G>(reads.places + n * G::in_slots, at + p * x_step, f[p]);
#pragma GCC unroll 2
    for (int o = 0; o < Together; ++o) {
      V w[G::sums];
#pragma GCC unroll 8
      for (int k = 0; k < G::sums; ++k) load(w[k], reads.filters[n] + o * reads.set + k * reads.step);
#pragma GCC unroll 4
      for (int p = 0; p < Pixels; ++p) G::multiply(f[p], w, sums[p][o]);
    }
  }
  const int64_t slot = job.out_h * job.out_w * job.cout;
#pragma GCC unroll 4
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 2
    for (int o = 0; o < Together; ++o) {
      V out[G::out_slots];
      G::synthesise(sums[p][o], out);
#pragma GCC unroll 8
      for (int h = 0; h < G::out_slots; ++h)
        store_lanes(y + p * y_step + (h * job.cosets + o) * slot, out[h], lanes);
    }
}

// Cosets that are computed together, where their number is even, and pixels.
template <typename G>
constexpr int DEPTHWISE_COSETS = DEPTHWISE_SUMS >= 2 * G::sums ? 2 : 1;
template <typename G, int Together>
constexpr int DEPTHWISE_PIXELS = DEPTHWISE_SUMS / (G::sums * Together);

// Some pixels of one row of y.
template <typename G, int Together, typename T>
static void depthwise_row(const Depthwise<T>& job, const DepthwiseReads<T>& reads, int64_t at, int64_t count,
                          const T* bias, T* y, int64_t lanes) {
  constexpr int64_t block = DEPTHWISE_PIXELS<G, Together>;
  const int64_t x_step = job.mul_w * LANES<T>, y_step = job.div_w * job.cout;
  // The last block goes over pixels that the one before it has done already.
  for (int64_t m = 0; m < count && count >= block; m += block) {
    const int64_t from = smaller(m, count - block);
    depthwise_pixels<G, block, Together>(job, reads, at + from * x_step, x_step, bias, y + from * y_step, y_step, lanes);
  }
  for (int64_t m = 0; m < count && count < block; ++m)
    depthwise_pixels<G, 1, Together>(job, reads, at + m * x_step, x_step, bias, y + m * y_step, y_step, lanes);
}

// The places of one tap and coset for pixel (i, j) of y and those that are div apart, which read alike. Whether there are any.
template <typename G, typename T>
static bool find_places(const Depthwise<T>& job, const DepthwiseWindow& window, int64_t i, int64_t j, int64_t tap,
                        int64_t coset, const T* x, const T* zeros, const T** places) {
  bool found = false;
  for (int g = 0; g < G::in_slots; ++g) {
    const int32_t* shift = job.shifts + (tap * G::in_slots + g) * 2;
    const int64_t row = i * job.mul_h + shift[0], column = j * job.mul_w + shift[1];
    const int64_t r = floor_div(row, job.div_h) - window.top, k = floor_div(column, job.div_w) - window.left;
    const bool whole = row % job.div_h == 0 && column % job.div_w == 0;
    places[g] = whole ? x + (((g * job.cosets + coset) * window.rows + r) * window.columns + k) * LANES<T> : zeros;
    found = found || whole;
  }
  return found;
}

// Items: images x blocks of rows of y.
template <typename G, int Together, typename T>
static void depthwise_items(const DepthwiseJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const DepthwiseScratch<T> sizes(job);
  const int64_t entries = job.taps * job.cosets, depth = entries * G::sums, width = padded(job.cin, LANES<T>);
  T* x = scratch;
  T* zeros = x + sizes.x;
  T* bias = zeros + sizes.zeros;
  const T** pointers = reinterpret_cast<const T**>(bias + LANES<T>);
  DepthwiseReads<T> reads{pointers, pointers + entries * G::in_slots, 0, 0, depth * width};
  clear(zeros, sizes.zeros + LANES<T>);
  const int64_t down = ceil_div(job.out_h, job.rows);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item / down, top = item % down * job.rows, bottom = smaller(top + job.rows, job.out_h);
    const DepthwiseWindow window(job, top, bottom);
    for (int64_t n = 0; n < job.cin; n += LANES<T>) {
      const int64_t lanes = smaller(LANES<T>, job.cin - n);
      const int64_t start = n / PANEL<T> * PANEL<T>, panel = smaller(PANEL<T>, width - start);
      const T* filters = job.filters + start * depth + (n - start);
      reads.step = job.cosets * panel;
      if (job.bias) copy_lanes(job.bias, n, job.cin, int64_t(1), bias);
      copy_window(job, window, image, n, x);
      for (int64_t i = top; i < smaller(top + job.div_h, bottom); ++i)
        for (int64_t j = 0; j < smaller(job.div_w, job.out_w); ++j) {
          reads.count = 0;
          for (int64_t t = 0; t < job.taps; ++t)
            for (int64_t c = 0; c < job.cosets; ++c) {
              if (!find_places<G>(job, window, i, j, t, c, x, zeros, reads.places + reads.count * G::in_slots)) continue;
              reads.filters[reads.count++] = filters + (t * G::sums * job.cosets + c) * panel;
            }
          for (int64_t o = 0; o < job.cosets; o += Together) {
            int64_t at = 0;
            for (int64_t row = i; row < bottom; row += job.div_h, at += job.mul_h * window.columns * LANES<T>) {
              const int64_t line = ((image * G::out_slots * job.cosets + o) * job.out_h + row) * job.out_w + j;
              depthwise_row<G, Together>(job, reads, at, ceil_div(job.out_w - j, job.div_w), bias,
                                         job.y + line * job.cout + n, lanes);
            }
            for (int64_t e = 0; e < reads.count; ++e) reads.filters[e] += Together * reads.set;
          }
        }
    }
  }
}

// to[k * step] += the products of an entry of x and the gradient's transform, d[k * d_step ..], of all pixels of some rows.
template <typename G, int Together, typename T>
static void depthwise_products(const Depthwise<T>& job, const T* const* places, int64_t x_row, int64_t rows, const T* d,
                               int64_t d_step, int64_t d_coset, T* to, int64_t step, int64_t set) {
  using V = Vector<T>;
  V sums[Together][G::sums];
#pragma GCC unroll 2
  for (int o = 0; o < Together; ++o)
#pragma GCC unroll 8
    for (int k = 0; k < G::sums; ++k) load(sums[o][k], to + o * set + k * step);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < job.out_w; ++j, d += LANES<T>) {
      V f[G::sums];
      read_transformed<G>(places, i * x_row + j * job.mul_w * LANES<T>, f);
#pragma GCC unroll 2
      for (int o = 0; o < Together; ++o) {
        V g[G::sums];
#pragma GCC unroll 8
        for (int k = 0; k < G::sums; ++k) load(g[k], d + k * d_step + o * d_coset);
        G::multiply_adjoint(f, g, sums[o]);
      }
    }
#pragma GCC unroll 2
  for (int o = 0; o < Together; ++o)
#pragma GCC unroll 8
    for (int k = 0; k < G::sums; ++k) store(to + o * set + k * step, sums[o][k]);
}

// Items: parts of the images' blocks of rows.
template <typename G, int Together, typename T>
static void depthwise_weight_grad_items(const DepthwiseGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const DepthwiseScratch<T> sizes(job, true);
  const int64_t width = padded(job.cin, LANES<T>), step = job.cosets * width, set = job.taps * G::sums * step;
  T* x = scratch;
  T* grad = x + sizes.x + sizes.zeros;
  const T** places = reinterpret_cast<const T**>(grad + sizes.grad + LANES<T>);
  const int64_t down = ceil_div(job.out_h, job.rows), items = job.batch * down;
  for (int64_t part = begin; part < end; ++part) {
    T* products = job.products + part * job.products_size;
    clear(products, job.products_size);
    for (int64_t item = part * items / job.parts; item < (part + 1) * items / job.parts; ++item) {
      const int64_t image = item / down, top = item % down * job.rows, rows = smaller(job.rows, job.out_h - top);
      const int64_t pixels = rows * job.out_w, d_coset = pixels * LANES<T>, d_step = job.cosets * d_coset;
      const DepthwiseWindow window(job, top, top + rows);
      for (int64_t n = 0; n < job.cin; n += LANES<T>) {
        copy_window(job, window, image, n, x);
        copy_rows(job, image, top, rows, n, grad);
        map_slots<G::out_slots, G::sums>(grad, d_step, d_step, grad, d_step,
                                         [](const auto& y, auto& f)
                                             __attribute__((always_inline)) { G::analyse(y, f); });
        for (int64_t t = 0; t < job.taps; ++t)
          for (int64_t c = 0; c < job.cosets; ++c) {
            find_places<G, T>(job, window, top, 0, t, c, x, nullptr, places);
            for (int64_t o = 0; o < job.cosets; o += Together)
              depthwise_products<G, Together>(job, places, job.mul_h * window.columns * LANES<T>, rows, grad + o * d_coset,
                                              d_step, d_coset, products + o * set + (t * G::sums * job.cosets + c) * width + n,
                                              step, set);
          }
      }
    }
  }
}
