// The lifting convolution of images with few channels, by the symmetry of the filter's taps. Included like product.h.
//
// H moves the taps of a filter about, orbit by orbit. In a basis of functions on the taps that is adapted to this
// representation (fourier.py: tap_transform), with x_j(p) = sum over taps t of basis[j, t] x(p + t),
//
//     y(h, p) = sum_k C[h, k] sum over products l of sum k  filters[l] x_inputs[l](p),
//
// C being the matrix entries of the irreducible representations (bilinear.h: synthesise). For 3 x 3 filters there are 13
// products per pair of channels instead of the filter stack's 36 (p4) or 72 (p4m). Each output is written once.

// Scratch: one tap after another, and x_j after x_j, each for a run of pixels; outputs, slot by slot, where channels do
// not fill vectors, or of one slot where all are equal; bias; where product l is read.
template <typename T>
struct LiftScratch {
  int64_t row, slots, staged, bias, offsets;

  explicit LiftScratch(const LiftJob<T>& job)
      : row(scratch_row<T>(job.columns * job.cin)),
        slots(job.products > 1 ? job.order : 1),
        staged(slots == 1 || job.cout % LANES<T> ? scratch_row<T>(job.columns * job.cout + LANES<T>) : 0),
        bias(padded(job.cout, LANES<T>)),
        offsets(scratch_of<int64_t, T>(job.products)) {}
};

template <typename T>
static int64_t lift_scratch(const LiftJob<T>& job) {
  const LiftScratch<T> sizes(job);
  return 2 * job.taps * sizes.row + sizes.slots * sizes.staged + sizes.bias + sizes.offsets;
}

// to[m * cin ..] = x at the places of `size` pixels of a row for one tap, zero outside.
template <typename T>
static void read_tap(const LiftJob<T>& job, int64_t tap, int64_t image, int64_t row, int64_t column, int64_t size,
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
static void change_basis(const LiftJob<T>& job, int64_t j, int64_t count, const T* taps, int64_t row, T* to) {
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

// `Pixels` successive pixels, a vector of channels: sums of products, transformed and stored, once if all slots are equal.
// Cin is 0 where the number of x's channels is not known beforehand.
template <typename G, int Pixels, int Cin, typename V, typename T>
GCNN_INLINE void lift_pixels(const LiftJob<T>& job, const T* x, const int64_t* offsets, const T* filters, int64_t step,
                             const T* bias, T* y, int64_t slot) {
  const int64_t cin = Cin ? Cin : job.cin;
  V sums[Pixels][G::sums];
  int64_t l = 0;
#pragma GCC unroll 8
  for (int k = 0; k < G::sums; ++k) {
    V sum[Pixels];
#pragma GCC unroll 8
    for (int i = 0; i < Pixels; ++i) {
      sum[i] = V{};
      if (k == 0) load(sum[i], bias);  // every slot's output contains the first sum once
    }
    for (; l < job.starts[k + 1]; ++l) {
      const T* from = x + offsets[l];
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
    for (int i = 0; i < Pixels; ++i) sums[i][k] = sum[i];
  }
#pragma GCC unroll 8
  for (int i = 0; i < Pixels; ++i) {
    V out[G::out_slots];
    G::synthesise(sums[i], out);
#pragma GCC unroll 8
    for (int h = 0; h < (G::sums > 1 ? G::out_slots : 1); ++h) store(y + h * slot + i * job.cout, out[h]);
  }
}

// Enough sums side by side for the latency of a multiply-add, although those of all k then do not fit into registers.
constexpr int64_t LIFT_PIXELS = GCNN_VECTOR_BYTES == 64 ? 8 : 6;

// A run of pixels. A last vector that channels do not fill goes over those of the next pixel, which are stored later.
template <typename G, int Cin, int Bytes, typename T>
static void lift_run(const LiftJob<T>& job, const T* x, const int64_t* offsets, const T* bias, int64_t size, T* y,
                     int64_t slot) {
  using V = Vector<T, Bytes>;
  const int64_t width = padded(job.cout, LANES<T>);
  for (int64_t n = width - LANES<T>; n >= 0; n -= LANES<T>) {
    const int64_t panel = n / PANEL<T> * PANEL<T>, step = smaller(PANEL<T>, width - panel);
    const T* filters = job.filters + panel * job.products * job.cin + (n - panel);
    int64_t m = 0;
    for (; m + LIFT_PIXELS <= size; m += LIFT_PIXELS)
      lift_pixels<G, LIFT_PIXELS, Cin, V>(job, x + m * job.cin, offsets, filters, step, bias + n, y + m * job.cout + n,
                                          slot);
    for (; m < size; ++m)
      lift_pixels<G, 1, Cin, V>(job, x + m * job.cin, offsets, filters, step, bias + n, y + m * job.cout + n, slot);
  }
}

// A copy whose stores are aligned, all but the first and the last.
template <typename T>
static void write_row(const T* from, int64_t count, T* to) {
  if (count < LANES<T>) return copy(from, count, to);
  const int64_t past = reinterpret_cast<uintptr_t>(to) / sizeof(T) % LANES<T>;
  Vector<T> v;
  load(v, from);
  store(to, v);
  for (int64_t i = LANES<T> - past; i + LANES<T> <= count; i += LANES<T>) {
    load(v, from + i);
    store(to + i, v);
  }
  load(v, from + count - LANES<T>);
  store(to + count - LANES<T>, v);
}

// One item: some pixels of one row.
template <typename G, typename T>
static void lift_item(const LiftJob<T>& job, int64_t item, T* scratch) {
  const LiftScratch<T> sizes(job);
  const int64_t across = ceil_div(job.out_w, job.columns);
  const int64_t image = item / (job.out_h * across), row = item / across % job.out_h;
  const int64_t column = item % across * job.columns, size = smaller(job.columns, job.out_w - column);
  T* taps = scratch;
  T* x = taps + job.taps * sizes.row;
  T* staged = x + job.taps * sizes.row;
  T* bias = staged + sizes.slots * sizes.staged;
  int64_t* offsets = reinterpret_cast<int64_t*>(bias + sizes.bias);
  clear(bias, sizes.bias);
  if (job.bias)
    for (int64_t c = 0; c < job.cout; ++c) bias[c] = job.bias[c];
  for (int64_t l = 0; l < job.products; ++l) offsets[l] = job.inputs[l] * sizes.row;

  for (int64_t t = 0; t < job.taps; ++t) read_tap(job, t, image, row, column, size, taps + t * sizes.row);
  for (int64_t j = 0; j < job.taps; ++j) change_basis(job, j, size * job.cin, taps, sizes.row, x + j * sizes.row);

  const int64_t slot = job.out_h * job.out_w * job.cout;
  T* y = job.y + image * G::out_slots * slot + (row * job.out_w + column) * job.cout;
  constexpr int narrow = GCNN_VECTOR_BYTES > 32 ? 32 : GCNN_VECTOR_BYTES;
  const bool is_narrow = job.cout * static_cast<int64_t>(sizeof(T)) <= narrow;
  // Grey and RGB images are what is lifted most.
  const auto run = job.cin == 1   ? (is_narrow ? lift_run<G, 1, narrow, T> : lift_run<G, 1, GCNN_VECTOR_BYTES, T>)
                   : job.cin == 3 ? (is_narrow ? lift_run<G, 3, narrow, T> : lift_run<G, 3, GCNN_VECTOR_BYTES, T>)
                                  : lift_run<G, 0, GCNN_VECTOR_BYTES, T>;
  if (sizes.staged == 0) return run(job, x, offsets, bias, size, y, slot);
  const int64_t step = sizes.slots > 1 ? sizes.staged : 0;
  run(job, x, offsets, bias, size, staged, step);
  for (int h = 0; h < G::out_slots; ++h) write_row(staged + h * step, size * job.cout, y + h * slot);
}

template <typename G, typename T>
static void lift_items(const LiftJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  for (int64_t item = begin; item < end; ++item) lift_item<G>(job, item, scratch);
}
