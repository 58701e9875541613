// The gradient of planar.h's convolution with respect to the filters. Included like product.h.
//
// As in weight_grad.h it is a sum over pixels of (A z)(C^T y')^T; here pixels lie along the vectors, so that each entry of a
// product is a dot product of two planes.

// The sums of each of `count` vectors; those of further ones are zero.
template <typename T>
GCNN_INLINE Vector<T> sums_of(const Vector<T>* vectors, int count) {
  constexpr int lanes = LANES<T>;
  const typename CountedIndices<lanes>::type indices;
  Vector<T> rows[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) rows[i] = i < count ? vectors[i] : Vector<T>{};
#pragma GCC unroll 4
  for (int half = lanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      rows[i] = zip<0>(rows[i], rows[i + half], indices) + zip<lanes / 2>(rows[i], rows[i + half], indices);
  return rows[0];
}

// products[i * row + j] += sum over pixels of a[i] d[j].
template <typename T, int Rows, int Columns>
static void dot_products(const T* const* a, const T* const* d, int64_t size, T* products, int64_t row) {
  using V = Vector<T>;
  V sum[Rows * Columns], x[Columns], y;
#pragma GCC unroll 16
  for (int i = 0; i < Rows * Columns; ++i) sum[i] = V{};
  for (int64_t m = 0; m < size; m += LANES<T>) {
#pragma GCC unroll 4
    for (int j = 0; j < Columns; ++j) load(x[j], d[j] + m);
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) {
      load(y, a[i] + m);
#pragma GCC unroll 4
      for (int j = 0; j < Columns; ++j) sum[i * Columns + j] += y * x[j];
    }
  }
  T total[Rows * Columns + LANES<T>];
#pragma GCC unroll 8
  for (int i = 0; i < Rows * Columns; i += LANES<T>) store(total + i, sums_of<T>(sum + i, Rows * Columns - i));
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Columns; ++j) products[i * row + j] += total[i * Columns + j];
}

// As many sums side by side as the latency of a multiply-add asks for and the registers hold.
constexpr int DOT_ROWS = 4, DOT_COLUMNS = GCNN_VECTOR_BYTES == 64 ? 4 : 2;

template <typename T>
using DotProducts = void (*)(const T* const*, const T* const*, int64_t, T*, int64_t);

template <typename T, int Rows>
static DotProducts<T> dot_products_of(int64_t columns) {
  if constexpr (DOT_COLUMNS == 4) {
    if (columns == 3) return dot_products<T, Rows, 3>;
    if (columns == 4) return dot_products<T, Rows, 4>;
  }
  return columns == 1 ? dot_products<T, Rows, 1> : dot_products<T, Rows, 2>;
}

// All rows and columns, in blocks whose sizes differ by at most one.
template <typename T>
static void dot_products(const T* const* a, int64_t rows, const T* const* d, int64_t columns, int64_t size, T* products,
                         int64_t row) {
  const int64_t down = ceil_div(rows, DOT_ROWS), across = ceil_div(columns, DOT_COLUMNS);
  for (int64_t n = 0, j = 0, next; n < across; ++n, j = next) {
    next = (n + 1) * columns / across;
    const DotProducts<T> kernels[] = {dot_products_of<T, 1>(next - j), dot_products_of<T, 2>(next - j),
                                      dot_products_of<T, 3>(next - j), dot_products_of<T, 4>(next - j)};
    for (int64_t m = 0, i = 0, below; m < down; ++m, i = below) {
      below = (m + 1) * rows / down;
      kernels[below - i - 1](a + i, d + j, size, products + i * row + j, row);
    }
  }
}

// Scratch: the windows of x and of the gradient, whose rows lie as far apart as those of x; their transforms, of one tap and
// of all channels of one of the groups; where taps lie; where the rows and the columns of a product lie.
template <typename T>
struct PlanarGradScratch {
  PlanarWindow<T> window;
  int64_t pixels, x, grad, a_step, d_step, places, pointers;

  explicit PlanarGradScratch(const PlanarGradJob<T>& job)
      : window(job),
        pixels(scratch_row<T>(job.rows * window.pitch + LANES<T>)),
        x(window.size(job)),
        grad(job.out_slots * job.block * job.cout * pixels),
        a_step(job.cin * pixels),
        d_step(job.cout * pixels),
        places(window.places_size(job)),
        pointers(scratch_of<const T*, T>(job.cin + job.cout)) {}

  int64_t total(const PlanarGradJob<T>& job) const {
    return x + grad + job.rank * (a_step + d_step) + places + pointers;
  }
};

template <typename T>
static int64_t planar_grad_scratch(const PlanarGradJob<T>& job) {
  return PlanarGradScratch<T>(job).total(job);
}

// The gradient of a part of y: to[(h * count + n) * pixels + ..], zero between the rows and after the last one.
template <typename T>
static void read_gradient(const PlanarGradJob<T>& job, const PlanarGradScratch<T>& sizes, const PlanarPart<T>& part, T* to) {
  const int64_t cout = job.cout / job.cosets, stride = job.groups * cout, count = part.groups * cout;
  const int64_t slots = job.out_slots * job.cosets, step = job.cosets * sizes.pixels, pitch = sizes.window.pitch;
  const T* end = job.grad + job.batch * slots * job.out_h * job.out_w * stride;
  for (int64_t s = 0; s < slots; ++s) {
    T* planes = to + s / job.cosets * count * step + s % job.cosets * sizes.pixels;
    for (int64_t r = 0; r < part.rows; ++r, planes += pitch) {
      const int64_t line = (part.image * slots + s) * job.out_h + part.top + r;
      to_planes(job.grad + line * job.out_w * stride + part.first * cout, stride, job.out_w, count, end, planes, step);
      const int64_t gap = r + 1 < part.rows ? pitch - job.out_w : LANES<T>;
      for (int64_t n = 0; n < count; ++n) clear(planes + n * step + job.out_w, gap);
    }
  }
}

// The products of one of a part's groups: a, d and pointers are scratch.
template <typename G, typename T>
static void planar_products(const PlanarGradJob<T>& job, const PlanarGradScratch<T>& sizes, const PlanarPart<T>& part,
                            const T* x, const T* grad, T* a, T* d, const int64_t* places, const T** pointers,
                            T* products) {
  const PlanarWindow<T>& window = sizes.window;
  const int64_t channels = part.groups * job.cin, slot = part.groups * job.cout * sizes.pixels;
  const int64_t width = padded(job.cout, LANES<T>);
  const T **rows = pointers, **columns = pointers + job.cin;
  const int64_t pixels = padded(part.pixels, LANES<T>);
  for (int64_t n = 0; n < job.cout; ++n)
    map_slots<G::out_slots, G::rank>(grad + n * sizes.pixels, slot, pixels, d + n * sizes.pixels, sizes.d_step,
                                     [](const auto& y, auto& p)
                                         __attribute__((always_inline)) { G::output_adjoint(y, p); });
  for (int64_t t = 0; t < job.taps; ++t) {
    for (int64_t c = 0; c < job.cin; ++c) {
      const T* from[G::in_slots];
      for (int g = 0; g < G::in_slots; ++g) from[g] = x + (g * channels + c) * window.channel + places[t * G::in_slots + g];
      transform_input<G>(from, pixels, a + c * sizes.pixels, sizes.a_step);
    }
    for (int q = 0; q < G::rank; ++q) {
      for (int64_t c = 0; c < job.cin; ++c) rows[c] = a + q * sizes.a_step + c * sizes.pixels;
      for (int64_t n = 0; n < job.cout; ++n) columns[n] = d + q * sizes.d_step + n * sizes.pixels;
      dot_products(rows, job.cin, columns, job.cout, part.pixels, products + (q * window.entries + t * job.cin) * width,
                   width);
    }
  }
}

// Items: parts of the pixels x blocks of channels.
template <typename G, typename T>
static void planar_weight_grad_items(const PlanarGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const PlanarGradScratch<T> sizes(job);
  const PlanarWindow<T>& window = sizes.window;
  const int64_t blocks = ceil_div(job.groups, job.block), pieces = job.batch * ceil_div(job.out_h, job.rows);
  const int64_t group_size = G::rank * window.entries * padded(job.cout, LANES<T>);
  T* x = scratch;
  T* grad = x + sizes.x;
  T* a = grad + sizes.grad;
  T* d = a + G::rank * sizes.a_step;
  int64_t* places = reinterpret_cast<int64_t*>(d + G::rank * sizes.d_step);
  const T** pointers = reinterpret_cast<const T**>(d + G::rank * sizes.d_step + sizes.places);
  clear(x, sizes.x);  // what lies between the rows is multiplied, by zero
  window.find_places(job, places);

  for (int64_t item = begin; item < end; ++item) {
    const int64_t index = item / blocks, block = item % blocks;
    T* products = job.products + index * job.products_size + block * job.block * group_size;
    clear(products, smaller(job.block, job.groups - block * job.block) * group_size);
    for (int64_t piece = index * pieces / job.parts; piece < (index + 1) * pieces / job.parts; ++piece) {
      const PlanarPart<T> part(job, window, piece, block);
      read_window(job, window, part, x);
      read_gradient(job, sizes, part, grad);
      for (int64_t u = 0; u < part.groups; ++u)
        planar_products<G>(job, sizes, part, x + u * job.cin * window.channel, grad + u * job.cout * sizes.pixels, a, d,
                           places, pointers, products + u * group_size);
    }
  }
}
