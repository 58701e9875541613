// The lifting convolution of images with few channels, by the symmetry of the filter's taps. Included like product.h.
//
// H moves the taps of a filter about, orbit by orbit. In a basis of functions on the taps that is adapted to this
// representation (fourier.py: tap_transform), with x_j(p) = sum over taps t of basis[j, t] x(p + t),
//
//     y(h, p) = sum_k C[h, k] sum over products l of sum k  filters[l] x_inputs[l](p),
//
// C being the matrix entries of the irreducible representations (bilinear.h: synthesise). For 3 x 3 filters there are 13
// products per pair of channels instead of the filter stack's 36 (p4) or 72 (p4m). Each output is written once. The gradient
// of the filters has as many products: sums over pixels of x_j with the entries of the output gradient's transform C^T y'.

// Scratch: one tap after another, and x_j after x_j, each for a run of pixels; the entries of y's transform, one after
// another; where product l is read; bias.
template <typename T>
struct LiftScratch {
  int64_t x_row, sums, sum_row, offsets, bias;

  explicit LiftScratch(const Lifting<T>& job)
      : x_row(scratch_row<T>(job.columns * job.cin)),
        sums(job.rank > 1 ? job.order : 1),
        sum_row(scratch_row<T>(job.columns * job.cout + LANES<T>)),
        offsets(scratch_of<int64_t, T>(job.rank)),
        bias(padded(job.cout, LANES<T>)) {}

  int64_t total(const Lifting<T>& job) const { return 2 * job.taps * x_row + sums * sum_row + offsets + bias; }
};

template <typename T>
static int64_t lift_scratch(const Lifting<T>& job) {
  return LiftScratch<T>(job).total(job);
}

// to[m * cin ..] = x at the places of `size` pixels of a row for one tap, zero outside.
template <typename T>
static void read_tap(const Lifting<T>& job, int64_t tap, int64_t image, int64_t row, int64_t column, int64_t size,
                     T* to) {
  const int64_t i = place(row * job.mul_h + job.shifts[2 * tap], 1, job.in_h);
  if (i < 0) return clear(to, size * job.cin);
  const T* x = job.x + (image * job.in_h + i) * job.in_w * job.cin;
  const int64_t first = column * job.mul_w + job.shifts[2 * tap + 1];
  if (job.mul_w == 1) {
    const int64_t left = smaller(larger(-first, 0), size), right = larger(smaller(job.in_w - first, size), left);
    clear(to, left * job.cin);
    copy(x + (first + left) * job.cin, (right - left) * job.cin, to + left * job.cin);
    return clear(to + right * job.cin, (size - right) * job.cin);
  }
  for (int64_t m = 0; m < size; ++m) {
    const int64_t j = place(first + m * job.mul_w, 1, job.in_w);
    for (int64_t c = 0; c < job.cin; ++c) to[m * job.cin + c] = j < 0 ? T(0) : x[j * job.cin + c];
  }
}

template <typename T, int Count>
static void add_taps(const T* const* taps, const T* signs, int64_t count, T* to) {
  using V = Vector<T>;
  for (int64_t f = 0; f < count; f += LANES<T>) {
    V sum{}, next;
#pragma GCC unroll 8
    for (int t = 0; t < Count; ++t) {
      load(next, taps[t] + f);
      sum += signs[t] * next;
    }
    store(to + f, sum);
  }
}

// Row j of the basis: to = the sum of its taps, an orbit of 1, 2, 4 or 8 or half of one, with their signs.
template <typename T>
static void change_basis(const Lifting<T>& job, int64_t j, int64_t count, const T* taps, int64_t row, T* to) {
  const T* from[8];
  T signs[8];
  int found = 0;
  for (int64_t t = 0; t < job.taps; ++t)
    if (const T sign = job.basis[j * job.taps + t]; sign != 0) {
      from[found] = taps + t * row;
      signs[found++] = sign;
    }
  const auto add = found == 1 ? add_taps<T, 1> : found == 2 ? add_taps<T, 2> : found == 4 ? add_taps<T, 4> : add_taps<T, 8>;
  add(from, signs, count, to);
}

// Some pixels of one row of y, and where things lie for them: x_j in rows of scratch, y's transform in others.
template <typename T>
struct LiftRun {
  int64_t image, row, column, size;
  T *taps, *x, *sums, *bias;
  int64_t* offsets;  // of x_inputs[l] in x

  LiftRun(const Lifting<T>& job, const LiftScratch<T>& sizes, T* scratch)
      : taps(scratch),
        x(taps + job.taps * sizes.x_row),
        sums(x + job.taps * sizes.x_row),
        bias(sums + sizes.sums * sizes.sum_row),
        offsets(reinterpret_cast<int64_t*>(bias + sizes.bias)) {
    for (int64_t l = 0; l < job.rank; ++l) offsets[l] = job.inputs[l] * sizes.x_row;
  }

  // The run of that number, and its x_j.
  void read(const Lifting<T>& job, const LiftScratch<T>& sizes, int64_t run) {
    const int64_t across = ceil_div(job.out_w, job.columns);
    image = run / (job.out_h * across);
    row = run / across % job.out_h;
    column = run % across * job.columns;
    size = smaller(job.columns, job.out_w - column);
    for (int64_t t = 0; t < job.taps; ++t) read_tap(job, t, image, row, column, size, taps + t * sizes.x_row);
    for (int64_t j = 0; j < job.taps; ++j) change_basis(job, j, size * job.cin, taps, sizes.x_row, x + j * sizes.x_row);
  }

  // Where it begins in a map of the output's shape whose slots are of size `slot`.
  int64_t place_in_output(const Lifting<T>& job, int64_t slot) const {
    return image * job.order * slot + (row * job.out_w + column) * job.cout;
  }
};

// `Pixels` successive pixels, a vector of channels of one entry of y's transform: a sum of products.
// Cin is 0 where the number of x's channels is not known beforehand. It is stored `Copies` times, `slot` apart.
template <int Pixels, int Cin, int Copies, typename V, typename T>
GCNN_INLINE void lift_pixels(const T* x, const int64_t* offsets, int64_t products, int64_t channels, const T* filters,
                             int64_t step, const V& start, T* to, int64_t cout, int64_t slot) {
  const int64_t cin = Cin ? Cin : channels;
  V sum[Pixels];
#pragma GCC unroll 8
  for (int i = 0; i < Pixels; ++i) sum[i] = start;
  for (int64_t l = 0; l < products; ++l) {
    const T* from = x + offsets[l];
    GCNN_AS_BASE(from);
#pragma GCC unroll 3
    for (int64_t c = 0; c < cin; ++c, filters += step) {
      V w;
      load(w, filters);
      GCNN_IN_REGISTER(w);
#pragma GCC unroll 8
      for (int i = 0; i < Pixels; ++i) sum[i] += from[i * cin + c] * w;
    }
  }
#pragma GCC unroll 8
  for (int s = 0; s < Copies; ++s)
#pragma GCC unroll 8
    for (int i = 0; i < Pixels; ++i) store(to + s * slot + i * cout, sum[i]);
}

// Enough sums side by side for the latency of a multiply-add.
constexpr int64_t LIFT_PIXELS = 8;

// One entry of a run's transform. A last vector that channels do not fill goes over those of the next pixel, which are
// stored later.
template <int Cin, int Bytes, int Copies, typename T>
static void lift_entry(const LiftJob<T>& job, const LiftRun<T>& run, int k, T* to, int64_t slot) {
  using V = Vector<T, Bytes>;
  const int64_t first = job.starts[k], products = job.starts[k + 1] - first, width = padded(job.cout, LANES<T>);
  const int64_t* offsets = run.offsets + first;
  for (int64_t n = width - LANES<T>; n >= 0; n -= LANES<T>) {
    const int64_t panel = n / PANEL<T> * PANEL<T>, step = smaller(PANEL<T>, width - panel);
    const T* filters = job.filters + panel * job.rank * job.cin + first * job.cin * step + (n - panel);
    V start{};
    if (k == 0) load(start, run.bias + n);  // every slot's output contains the first entry once
    int64_t m = 0;
    for (; m + LIFT_PIXELS <= run.size; m += LIFT_PIXELS)
      lift_pixels<LIFT_PIXELS, Cin, Copies>(run.x + m * job.cin, offsets, products, job.cin, filters, step, start,
                                            to + m * job.cout + n, job.cout, slot);
    for (; m < run.size; ++m)
      lift_pixels<1, Cin, Copies>(run.x + m * job.cin, offsets, products, job.cin, filters, step, start,
                                  to + m * job.cout + n, job.cout, slot);
  }
}

// Items: runs.
template <typename G, typename T>
static void lift_items(const LiftJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const LiftScratch<T> sizes(job);
  LiftRun<T> run(job, sizes, scratch);
  clear(run.bias, sizes.bias);
  if (job.bias)
    for (int64_t c = 0; c < job.cout; ++c) run.bias[c] = job.bias[c];
  constexpr int narrow = GCNN_VECTOR_BYTES > 32 ? 32 : GCNN_VECTOR_BYTES;
  const bool is_narrow = job.cout * static_cast<int64_t>(sizeof(T)) <= narrow;
  // Grey and RGB images are what is lifted most.
  const auto entry = job.cin == 1   ? (is_narrow ? lift_entry<1, narrow, 1, T> : lift_entry<1, GCNN_VECTOR_BYTES, 1, T>)
                     : job.cin == 3 ? (is_narrow ? lift_entry<3, narrow, 1, T> : lift_entry<3, GCNN_VECTOR_BYTES, 1, T>)
                                    : lift_entry<0, GCNN_VECTOR_BYTES, 1, T>;
  const int64_t slot = job.out_h * job.out_w * job.cout;
  // The next run's place is fetched where a map is too large to be in a cache.
  const int64_t ahead = G::out_slots * slot * static_cast<int64_t>(sizeof(T)) > (4 << 20) ? job.columns * job.cout : 0;
  for (int64_t item = begin; item < end; ++item) {
    run.read(job, sizes, item);
    T* y = job.y + run.place_in_output(job, slot);
    if constexpr (G::sums > 1) {
      for (int k = 0; k < G::sums; ++k) entry(job, run, k, run.sums + k * sizes.sum_row, 0);
      map_slots<G::sums, G::out_slots>(run.sums, sizes.sum_row, run.size * job.cout, y, slot, [](const auto& f, auto& to)
                                       __attribute__((always_inline)) { G::synthesise(f, to); });
      continue;
    }
    // All slots are equal. Vectors that are lines of a cache are stored at once; others would fall on the same sets of it,
    // slot by slot.
    if constexpr (G::sums == 1 && GCNN_VECTOR_BYTES == 64)
      if (job.cout % LANES<T> == 0) {
        (job.cin == 3 ? lift_entry<3, 64, G::out_slots, T> : lift_entry<0, 64, G::out_slots, T>)(job, run, 0, y, slot);
        continue;
      }
    entry(job, run, 0, run.sums, 0);
    const int64_t count = run.size * job.cout;
    for (int h = 0; h < G::out_slots; ++h) {
      T* to = y + h * slot;
      copy(run.sums, count, to);
      for (int64_t i = 0; i < ahead; i += 64 / sizeof(T)) __builtin_prefetch(to + count + i, 1);
    }
  }
}

// Products of `Products` inputs, `Rows` channels of each, with a vector of channels of one entry of the gradient: to += the
// sum over the pixels of a run. As many sums side by side as the latency of a multiply-add and the registers allow.
template <int Products, int Rows, typename T>
static void lift_products(const T* x, const int64_t* offsets, int64_t cin, const T* d, int64_t cout, int64_t size, T* to,
                          int64_t width) {
  Vector<T> sum[Products][Rows];
  const T* from[Products];
#pragma GCC unroll 8
  for (int l = 0; l < Products; ++l) {
    from[l] = x + offsets[l];
#pragma GCC unroll 8
    for (int c = 0; c < Rows; ++c) load(sum[l][c], to + (l * cin + c) * width);
  }
  for (int64_t m = 0; m < size; ++m, d += cout) {
    Vector<T> v;
    load(v, d);
#pragma GCC unroll 8
    for (int l = 0; l < Products; ++l) {
#pragma GCC unroll 8
      for (int c = 0; c < Rows; ++c) sum[l][c] += from[l][c] * v;
      from[l] += cin;
    }
  }
#pragma GCC unroll 8
  for (int l = 0; l < Products; ++l)
#pragma GCC unroll 8
    for (int c = 0; c < Rows; ++c) store(to + (l * cin + c) * width, sum[l][c]);
}

// All products of one entry of the gradient. Images of 1 and 3 channels take several products together.
template <typename T>
static void lift_entry_grad(const T* x, const int64_t* offsets, int64_t products, int64_t cin, const T* d, int64_t cout,
                            int64_t size, T* to, int64_t width) {
  using Kernel = void (*)(const T*, const int64_t*, int64_t, const T*, int64_t, int64_t, T*, int64_t);
  static constexpr Kernel grey[] = {lift_products<1, 1, T>, lift_products<2, 1, T>, lift_products<3, 1, T>,
                                    lift_products<4, 1, T>, lift_products<5, 1, T>, lift_products<6, 1, T>};
  static constexpr Kernel colour[] = {lift_products<1, 3, T>, lift_products<2, 3, T>, lift_products<3, 3, T>};
  static constexpr Kernel rows[] = {lift_products<1, 1, T>, lift_products<1, 2, T>, lift_products<1, 3, T>,
                                    lift_products<1, 4, T>, lift_products<1, 5, T>, lift_products<1, 6, T>};
  for (int64_t n = 0; n < width; n += LANES<T>) {
    if (cin == 1 || cin == 3) {
      const int64_t most = cin == 1 ? 6 : 3;
      for (int64_t l = 0; l < products; l += most) {
        const Kernel kernel = (cin == 1 ? grey : colour)[smaller(products - l, most) - 1];
        kernel(x, offsets + l, cin, d + n, cout, size, to + l * cin * width + n, width);
      }
      continue;
    }
    for (int64_t l = 0; l < products; ++l)
      for (int64_t c = 0; c < cin; c += 6)
        rows[smaller(cin - c, 6) - 1](x + c, offsets + l, cin, d + n, cout, size, to + (l * cin + c) * width + n, width);
  }
}

// Items: parts of the pixels, run by run.
template <typename G, typename T>
static void lift_weight_grad_items(const LiftGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const LiftScratch<T> sizes(job);
  LiftRun<T> run(job, sizes, scratch);
  clear(run.sums, sizes.sums * sizes.sum_row);  // vectors reach past the last channels
  const int64_t width = padded(job.cout, LANES<T>), slot = job.out_h * job.out_w * job.cout;
  const int64_t runs = job.batch * job.out_h * ceil_div(job.out_w, job.columns);
  for (int64_t part = begin; part < end; ++part) {
    T* products = job.products + part * job.products_size;
    clear(products, job.products_size);
    for (int64_t r = part * runs / job.parts; r < (part + 1) * runs / job.parts; ++r) {
      run.read(job, sizes, r);
      map_slots<G::out_slots, G::sums>(job.grad + run.place_in_output(job, slot), slot, run.size * job.cout, run.sums,
                                       sizes.sum_row, [](const auto& y, auto& f)
                                                          __attribute__((always_inline)) { G::analyse(y, f); });
      for (int k = 0; k < G::sums; ++k) {
        const int64_t first = job.starts[k], count = job.starts[k + 1] - first;
        lift_entry_grad(run.x, run.offsets + first, count, job.cin, run.sums + k * sizes.sum_row, job.cout, run.size,
                        products + first * job.cin * width, width);
      }
    }
  }
}
