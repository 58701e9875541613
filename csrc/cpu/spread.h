// The group convolution, spreading: the transpose of gather.h. Included like product.h.
//
// Written with t = h t', the convolution is
//
//     y(h, p) = sum over taps t' of V_t'(h, p + h t'),    V_t'(h, q) = sum_s w[h^-1 s, t'] x(s, q),
//
// so x is transformed once per pixel instead of once per pixel and tap; what is done per tap is the transform back, and
// |H| shifted sums. That is cheaper where the output has few channels, and columns (tap, channel) fill vectors that a few
// channels alone would not. For a lifting convolution V does not depend on h at all: one product per filter entry serves
// all |H| slots, |H| times fewer than the filter stack takes.

// Scratch: transformed pixels; their products; V of a ring of rows, [slot, row, column, (tap, channel)]; bias; pointers.
template <typename G, typename T>
struct SpreadScratch {
  static constexpr int64_t v_slots = G::rank == 1 ? 1 : G::out_slots;  // Copy: all slots are equal
  int64_t depth, low_h, high_h, low_w, ring, width, n, pixels, a_step, s_step, v_row, v_slot;

  explicit SpreadScratch(const SpreadJob<T>& job) {
    int64_t high_w = low_w = job.shifts[1];
    low_h = high_h = job.shifts[0];
    for (int64_t i = 1; i < job.taps * job.out_slots; ++i) {
      low_h = smaller(low_h, job.shifts[2 * i]);
      low_w = smaller(low_w, job.shifts[2 * i + 1]);
      high_h = -smaller(-high_h, -job.shifts[2 * i]);
      high_w = -smaller(-high_w, -job.shifts[2 * i + 1]);
    }
    ring = smaller((high_h - low_h) / job.div_h + 2, job.in_h) + job.step - 1;
    width = smaller(((job.columns - 1) * job.mul_w + high_w - low_w) / job.div_w + 2, job.in_w);
    n = padded(job.taps * job.cout, LANES<T>);
    pixels = job.step * width;
    depth = G::stacked ? G::in_slots * job.cin : job.cin;
    a_step = pixels * depth;
    s_step = G::rank > 1 ? pixels * n : 0;
    v_row = width * n;
    v_slot = ring * v_row;
  }

  int64_t total(const SpreadJob<T>& job) const {
    return G::rank * (a_step + s_step) + v_slots * v_slot + padded(job.cout, LANES<T>) +
           scratch_of<int64_t, T>((3 * G::out_slots + 1) * job.taps);
  }
};

// V of `rows` rows of x from `row` on, columns `first` .. first + width - 1.
template <typename G, typename T>
static void spread_rows(const SpreadJob<T>& job, const SpreadScratch<G, T>& sizes, int64_t image, int64_t row,
                        int64_t rows, int64_t first, int64_t width, T* a, T* sums, T* v) {
  const int64_t slot = job.in_h * job.in_w * job.cin, columns = padded(job.taps * job.cout, LANES<T>);
  for (int64_t i = 0; i < rows; ++i) {
    const T* from[G::in_slots];
    for (int g = 0; g < G::in_slots; ++g)
      from[g] = job.x + (image * G::in_slots + g) * slot + ((row + i) * job.in_w + first) * job.cin;
    T* to = a + i * width * sizes.depth;
    if constexpr (G::stacked) {
      for (int64_t j = 0; j < width; ++j)
        for (int g = 0; g < G::in_slots; ++g, to += job.cin) copy(from[g] + j * job.cin, job.cin, to);
    } else {
      transform_input<G>(from, width * job.cin, to, sizes.a_step);  // all pixels as one row
    }
  }
  for (int q = 0; q < G::rank; ++q)
    for (int64_t n = 0; n < columns; n += PANEL<T>) {
      const int64_t vectors = smaller(PANEL_VECTORS, (columns - n) / LANES<T>), panel = vectors * LANES<T>;
      const T* filters = job.filters + (q * columns + n) * sizes.depth;
      if constexpr (G::rank > 1) {
        panel_product(vectors, rows * width, sizes.depth, a + q * sizes.a_step, sizes.depth, int64_t(1), filters, panel,
                      sums + q * sizes.s_step + n, columns, false);
      } else {
        for (int64_t i = 0; i < rows; ++i)
          panel_product(vectors, width, sizes.depth, a + i * width * sizes.depth, sizes.depth, int64_t(1), filters, panel,
                        v + (row + i) % sizes.ring * sizes.v_row + n, columns, false);
      }
    }
  if constexpr (G::rank > 1) {
    using V = Vector<T>;
    for (int64_t i = 0; i < rows; ++i) {
      T* to = v + (row + i) % sizes.ring * sizes.v_row;
      const T* from = sums + i * width * columns;
      for (int64_t c = 0; c < width * columns; c += LANES<T>) {
        V p[G::rank], out[G::out_slots];
        load_steps(p, from + c, sizes.s_step);
        G::output(p, out);
        store_steps(to + c, sizes.v_slot, out);
      }
    }
  }
}

// y = bias + the sum over t of from[t][offset + ..]. All but y are in scratch and may be read beyond a row's end; y may be
// written beyond its channels if `Over`.
template <typename T, int Bytes, int Count, bool Over>
GCNN_INLINE void sum_rows(const T* const* from, int64_t offset, int64_t count, const T* bias, int64_t channels, T* y) {
  using V = Vector<T, Bytes>;
  constexpr int64_t lanes = Bytes / sizeof(T);
  for (int64_t c = 0; c < channels; c += lanes) {
    V total, next;
    load(total, bias + c);
#pragma GCC unroll 9
    for (int64_t t = 0; t < (Count ? Count : count); ++t) {
      load(next, from[t] + offset + c);
      total += next;
    }
    if (Over || c + lanes <= channels)
      store(y + c, total);
    else
      store_part(y + c, total, channels - c);
  }
}

template <typename T, int Count, bool Over = false>
GCNN_INLINE void sum_rows(const T* const* from, int64_t offset, int64_t count, const T* bias, int64_t channels, T* y) {
  if constexpr (GCNN_VECTOR_BYTES >= 64)
    if (channels * sizeof(T) > 32) return sum_rows<T, 64, Count, Over>(from, offset, count, bias, channels, y);
  if constexpr (GCNN_VECTOR_BYTES >= 32)
    if (channels * sizeof(T) > 16) return sum_rows<T, 32, Count, Over>(from, offset, count, bias, channels, y);
  sum_rows<T, 16, Count, Over>(from, offset, count, bias, channels, y);
}

// The same for the pixels left .. right - 1 of a row, at all of which the same rows of V are read. A vector that channels do
// not fill goes over those of the next pixel, which are stored later; but for the last pixel, after which others may be.
template <typename T, int Count>
static void sum_run(const T* const* from, int64_t step, int64_t count, const T* bias, int64_t channels, int64_t left,
                    int64_t right, T* y) {
  const int64_t last = right - (LANES<T> + channels - 1) / channels;  // a vector may reach over several pixels
  int64_t c = left;
  for (; c < last; ++c) sum_rows<T, Count, true>(from, c * step, count, bias, channels, y + c * channels);
  for (; c < right; ++c) sum_rows<T, Count>(from, c * step, count, bias, channels, y + c * channels);
}

struct Inside {
  int64_t taps, left, right;
};

constexpr int64_t SPREAD_COLUMNS = 16;

// One item: a rectangle of one image of y.
template <typename G, typename T>
static void spread_item(const SpreadJob<T>& job, int64_t item, T* scratch) {
  const SpreadScratch<G, T> sizes(job);
  const int64_t down = ceil_div(job.out_h, job.rows), across = ceil_div(job.out_w, job.columns);
  const int64_t image = item / (down * across);
  const int64_t r0 = item / across % down * job.rows, r1 = smaller(r0 + job.rows, job.out_h);
  const int64_t c0 = item % across * job.columns, c1 = smaller(c0 + job.columns, job.out_w);
  T* a = scratch;
  T* sums = a + G::rank * sizes.a_step;
  T* v = sums + G::rank * sizes.s_step;
  T* bias = v + sizes.v_slots * sizes.v_slot;
  const T** starts = reinterpret_cast<const T**>(bias + padded(job.cout, LANES<T>));  // per slot, tap: of a row of V,
  const T** from = starts + job.taps * G::out_slots;                                  // of its part to be read,
  const T** border = from + job.taps * G::out_slots;                                  // at one pixel of the border
  int64_t* shifts = reinterpret_cast<int64_t*>(border + job.taps);
  clear(bias, padded(job.cout, LANES<T>));
  if (job.bias)
    for (int64_t c = 0; c < job.cout; ++c) bias[c] = job.bias[c];

  const int64_t low = c0 * job.mul_w + sizes.low_w, first = low > 0 ? smaller(low / job.div_w, job.in_w) : 0;
  const int64_t width = smaller(sizes.width, job.in_w - first), slot = job.out_h * job.out_w * job.cout;
  const int64_t columns = padded(job.taps * job.cout, LANES<T>);
  int64_t ready = 0;  // rows of x before this one are in the ring, or not needed any more
  for (int64_t r = r0; r < r1; ++r) {
    const int64_t top = r * job.mul_h + sizes.low_h, bottom = r * job.mul_h + sizes.high_h;
    if (top > 0 && ready < top / job.div_h) ready = top / job.div_h;
    const int64_t needed = bottom < 0 ? 0 : smaller(bottom / job.div_h + 1, job.in_h);
    while (ready < needed) {
      const int64_t rows = smaller(job.step, job.in_h - ready);
      spread_rows<G>(job, sizes, image, ready, rows, first, width, a, sums, v);
      ready += rows;
    }
    // Per slot, the taps whose row is inside, and the columns at which all of them are inside.
    Inside inside[G::out_slots];
    for (int h = 0; h < G::out_slots; ++h) {
      const T* slot_v = v + (sizes.v_slots > 1 ? h * sizes.v_slot : 0);
      inside[h] = {0, c0, job.div_w == 1 ? c1 : c0};
      for (int64_t tap = 0; tap < job.taps; ++tap) {
        const int32_t* shift = job.shifts + (tap * G::out_slots + h) * 2;
        const int64_t i = place(r * job.mul_h + shift[0], job.div_h, job.in_h);
        if (i < 0) continue;
        const int64_t t = h * job.taps + inside[h].taps++;
        starts[t] = slot_v + i % sizes.ring * sizes.v_row + tap * job.cout - first * columns;
        shifts[t] = shift[1];
        from[t] = starts[t] + shift[1] * columns;
        inside[h].left = larger(inside[h].left, ceil_div(-shift[1], job.mul_w));
        inside[h].right = smaller(inside[h].right, ceil_div(job.in_w - shift[1], job.mul_w));
      }
    }
    // A few columns for all slots, which read the same part of V.
    for (int64_t left = c0; left < c1; left += SPREAD_COLUMNS)
      for (int h = 0; h < G::out_slots; ++h) {
        const int64_t right = smaller(left + SPREAD_COLUMNS, c1), t0 = h * job.taps, count = inside[h].taps;
        const int64_t l = smaller(larger(left, inside[h].left), right), m = larger(l, smaller(right, inside[h].right));
        T* y = job.y + (image * G::out_slots + h) * slot + r * job.out_w * job.cout;
        const auto at_border = [&](int64_t c) {
          int64_t n = 0;
          for (int64_t t = t0; t < t0 + count; ++t) {
            const int64_t j = place(c * job.mul_w + shifts[t], job.div_w, job.in_w);
            if (j >= 0) border[n++] = starts[t] + j * columns;
          }
          sum_rows<T, 0>(border, 0, n, bias, job.cout, y + c * job.cout);
        };
        for (int64_t c = left; c < l; ++c) at_border(c);
        const auto sum = count == 9 ? sum_run<T, 9> : count == 1 ? sum_run<T, 1> : sum_run<T, 0>;  // 3 x 3 and 1 x 1
        sum(from + t0, job.mul_w * columns, count, bias, job.cout, l, m, y);
        for (int64_t c = m; c < right; ++c) at_border(c);
      }
  }
}

template <typename G, typename T>
static void spread_items(const SpreadJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  for (int64_t item = begin; item < end; ++item) spread_item<G>(job, item, scratch);
}
