// Convolutions of few channels, with pixels along the vectors. Included like product.h.
//
// The same sums as in gather.h; but channels that fill no vector waste the rest of it wherever they are read, transformed,
// multiplied and written. Here a part of x is copied to planes, one for each slot and channel, with zeros around it, in
// which successive pixels are neighbours for every tap. Filters are the scalars of the products.

// The lanes 0 .. N - 1, as a type.
template <int... I>
struct Indices {};
template <int N, int... I>
struct CountedIndices : CountedIndices<N - 1, N - 1, I...> {};
template <int... I>
struct CountedIndices<0, I...> {
  typedef Indices<I...> type;
};

// The lanes of a and b in turns, from lane First on.
template <int First, typename V, int... I>
GCNN_INLINE V zip(const V& a, const V& b, Indices<I...>) {
  constexpr int lanes = sizeof...(I);
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (First + I / 2 + I % 2 * lanes)...);
#else
  using Integer = decltype(a == b);
  return __builtin_shuffle(a, b, Integer{(First + I / 2 + I % 2 * lanes)...});
#endif
}

template <typename T>
GCNN_INLINE void transpose(Vector<T> (&rows)[LANES<T>]) {
  constexpr int lanes = LANES<T>, half = lanes / 2;
  const typename CountedIndices<lanes>::type indices;
#pragma GCC unroll 4
  for (int stage = 1; stage < lanes; stage *= 2) {
    Vector<T> from[lanes];
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) from[i] = rows[i];
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) {
      rows[2 * i] = zip<0>(from[i], from[i + half], indices);
      rows[2 * i + 1] = zip<half>(from[i], from[i + half], indices);
    }
  }
}

// to[c * step + m] = from[m * stride + c]. Whole vectors are stored, and nothing is read from `end` on.
template <typename T>
static void to_planes(const T* from, int64_t stride, int64_t pixels, int64_t channels, const T* end, T* to, int64_t step) {
  constexpr int lanes = LANES<T>;
  for (int64_t m = 0; m < pixels; m += lanes, from += lanes * stride) {
    const int64_t size = smaller(pixels - m, lanes);
    for (int64_t c = 0; c < channels; c += lanes) {
      const int64_t count = smaller(channels - c, lanes);
      Vector<T> rows[lanes];
      if (size == lanes && from + (lanes - 1) * stride + c + lanes <= end) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) load(rows[i], from + i * stride + c);
      } else {
        for (int i = 0; i < lanes; ++i) {
          T part[lanes] = {};
          for (int64_t l = 0; l < (i < size ? count : 0); ++l) part[l] = from[i * stride + c + l];
          load(rows[i], part);
        }
      }
      transpose<T>(rows);
      for (int64_t i = 0; i < count; ++i) store(to + (c + i) * step + m, rows[i]);
    }
  }
}

// The other way round, to[m * stride + c] = from[c * step + m]. Whole vectors are loaded. Where a pixel's channels are all
// its own and fill no vector, one is stored over the next pixels of the row, which are written later.
template <typename T>
static void from_planes(const T* from, int64_t step, int64_t pixels, int64_t channels, T* to, int64_t stride) {
  constexpr int lanes = LANES<T>;
  const int64_t last = channels == stride ? stride * pixels - lanes : -1;  // where a whole vector still fits
  for (int64_t m = 0; m < pixels; m += lanes) {
    const int64_t size = smaller(pixels - m, lanes);
    for (int64_t c = 0; c < channels; c += lanes) {
      if (channels > lanes) c = smaller(c, channels - lanes);
      const int64_t count = smaller(channels - c, lanes);
      Vector<T> rows[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) load(rows[i], from + (c + smaller(i, count - 1)) * step + m);
      transpose<T>(rows);
      for (int64_t i = 0; i < size; ++i) {
        T* place = to + (m + i) * stride + c;
        if (count == lanes || (m + i) * stride <= last)
          store(place, rows[i]);
        else
          store_part(place, rows[i], count);
      }
    }
  }
}

// Where y's pixels lie: those of one remainder by div form a grid, all read x at the same places, seen from their own.
template <typename T>
GCNN_INLINE int64_t grid_rows(const Planar<T>& job) {
  return ceil_div(job.out_h, job.div_h);
}

// A part of x in planes. Rows and columns are sorted by their remainders by mul, so that successive pixels of y's grid find
// neighbours.
template <typename T>
struct PlanarWindow {
  int64_t low_h, low_w;      // the first row and column, seen from the first pixel's
  int64_t rows, pitch;       // of one remainder
  int64_t channel;           // from one channel's planes to the next one's
  int64_t columns, entries;  // of y's grid; of a product: (tap, channel)

  explicit PlanarWindow(const Planar<T>& job) : columns(ceil_div(job.out_w, job.div_w)), entries(job.taps * job.cin) {
    const Range down = range(job, 0, job.div_h), across = range(job, 1, job.div_w);
    low_h = down.low;
    low_w = across.low;
    rows = job.rows + (down.high - down.low) / job.mul_h;
    pitch = columns + (across.high - across.low) / job.mul_w;
    channel = scratch_row<T>(job.mul_h * job.mul_w * rows * pitch + LANES<T>);
  }

  // places[(grid * taps + t) * slots + g] = where the value of slot g for tap t lies for a grid's first pixel, or -1.
  void find_places(const Planar<T>& job, int64_t* places) const {
    for (int64_t grid = 0; grid < job.div_h * job.div_w; ++grid)
      for (int64_t n = 0; n < job.taps * job.in_slots; ++n) {
        const int64_t i = grid / job.div_w + job.shifts[2 * n], j = grid % job.div_w + job.shifts[2 * n + 1];
        const int64_t row = floor_div(i, job.div_h) - low_h, column = floor_div(j, job.div_w) - low_w;
        const int64_t remainder = row % job.mul_h * job.mul_w + column % job.mul_w;
        const int64_t found = (remainder * rows + row / job.mul_h) * pitch + column / job.mul_w;
        *places++ = i % job.div_h || j % job.div_w ? -1 : found;
      }
  }

  // Scalars of scratch for the window, and for its places.
  int64_t size(const Planar<T>& job) const { return job.in_slots * job.block * job.cin * channel; }
  static int64_t places_size(const Planar<T>& job) {
    return scratch_of<int64_t, T>(job.div_h * job.div_w * job.taps * job.in_slots);
  }

 private:
  struct Range {
    int64_t low, high;
  };

  // Of the shifts in one direction, as far as grids have them.
  static Range range(const Planar<T>& job, int direction, int64_t div) {
    Range found{INT64_MAX, INT64_MIN};
    for (int64_t n = 0; n < job.taps * job.in_slots; ++n)
      for (int64_t first = 0; first < div; ++first) {
        const int64_t shift = first + job.shifts[2 * n + direction];
        if (shift % div == 0) found = {smaller(found.low, shift / div), larger(found.high, shift / div)};
      }
    return found;
  }
};

// Some rows of y's grids, for some parts of the channels.
template <typename T>
struct PlanarPart {
  int64_t image, top, rows;
  int64_t first, groups;
  int64_t pixels;  // with what lies between the rows

  PlanarPart(const Planar<T>& job, const PlanarWindow<T>& window, int64_t index, int64_t block) {
    const int64_t down = ceil_div(grid_rows(job), job.rows);
    image = index / down;
    top = index % down * job.rows;
    rows = smaller(job.rows, grid_rows(job) - top);
    first = block * job.block;
    groups = smaller(job.block, job.groups - first);
    pixels = (rows - 1) * window.pitch + window.columns;
  }
};

// What a part reads: channels of all slots, to[(slot * count + c) * channel + ..], c counting cosets too.
template <typename T>
static void read_window(const Planar<T>& job, const PlanarWindow<T>& window, const PlanarPart<T>& part, T* to) {
  const int64_t cin = job.cin / job.cosets, stride = job.groups * cin, count = part.groups * cin;
  const int64_t slots = job.in_slots * job.cosets, step = job.cosets * window.channel;
  const T* end = job.x + job.batch * slots * job.in_h * job.in_w * stride;
  for (int64_t s = 0; s < slots; ++s) {
    const T* slot = job.x + (part.image * slots + s) * job.in_h * job.in_w * stride + part.first * cin;
    T* planes = to + s / job.cosets * count * step + s % job.cosets * window.channel;
    for (int64_t remainder = 0; remainder < job.mul_h * job.mul_w; ++remainder)
      for (int64_t r = 0; r < window.rows; ++r) {
        const int64_t row = (part.top + r) * job.mul_h + window.low_h + remainder / job.mul_w;
        const int64_t left = window.low_w + remainder % job.mul_w;
        T* line = planes + (remainder * window.rows + r) * window.pitch;
        int64_t begin = 0, stop = 0;
        if (row >= 0 && row < job.in_h && left < job.in_w) {
          begin = smaller(left < 0 ? ceil_div(-left, job.mul_w) : 0, window.pitch);
          stop = larger(smaller(ceil_div(job.in_w - left, job.mul_w), window.pitch), begin);
        }
        for (int64_t c = 0; c < count; ++c) clear(line + c * step, begin);
        to_planes(slot + (row * job.in_w + left + begin * job.mul_w) * stride, stride * job.mul_w, stop - begin, count, end,
                  line + begin, step);
        for (int64_t c = 0; c < count; ++c) clear(line + c * step + stop, window.pitch - stop);
      }
  }
}

// a[q * step + v] = the q-th entry of A z of `size` pixels, whole vectors of them, z(g) = from[g].
template <typename G, typename T>
GCNN_INLINE void transform_planes(const T* const (&from)[G::in_slots], int64_t size, T* a, int64_t step) {
  for (int64_t v = 0; v < size; v += LANES<T>) {
    Vector<T> z[G::in_slots], out[G::rank];
#pragma GCC unroll 8
    for (int g = 0; g < G::in_slots; ++g) load(z[g], from[g] + v);
    G::input(z, out);
#pragma GCC unroll 16
    for (int q = 0; q < G::rank; ++q) store(a + q * step + v, out[q]);
  }
}

// Scratch: the window; zeros; one tile's transformed inputs, their products and y; where taps lie.
template <typename T>
struct PlanarScratch {
  PlanarWindow<T> window;
  int64_t x, zeros, a_step, s_step, y, places;

  explicit PlanarScratch(const PlanarJob<T>& job)
      : window(job),
        x(window.size(job)),
        zeros(job.tile),
        a_step(job.depth * job.tile + LANES<T>),
        s_step(job.cout * job.tile + LANES<T>),
        y(job.out_slots * job.block * job.cout * job.tile + LANES<T>),
        places(window.places_size(job)) {}

  int64_t total(const PlanarJob<T>& job) const { return x + zeros + job.rank * (a_step + s_step) + y + places; }
};

template <typename T>
static int64_t planar_scratch(const PlanarJob<T>& job) {
  return PlanarScratch<T>(job).total(job);
}

// One tile: some pixels of a grid, whole vectors of them.
template <typename T>
struct PlanarTile {
  const T *x, *zeros;  // the first pixel in the window
  int64_t channels;    // of the window
  int64_t size;
  const int64_t* places;
  T *a, *sums;
};

// The products of a tile, of one of the groups.
template <typename G, typename T>
static void tile_products(const PlanarJob<T>& job, const PlanarScratch<T>& sizes, const PlanarTile<T>& tile,
                          const T* filters) {
  const int64_t width = padded(job.cout, LANES<T>), vectors = ceil_div(tile.size, LANES<T>);
  const auto is_read = [&](int64_t tap) {
    for (int g = 0; g < G::in_slots; ++g)
      if (tile.places[tap * G::in_slots + g] >= 0) return true;
    return false;
  };
  bool add = false;
  for (int64_t k0 = 0, k1; k0 < sizes.window.entries; k0 = k1) {
    // One pass: entries of successive taps that this grid reads.
    if (!is_read(k0 / job.cin)) {
      k1 = (k0 / job.cin + 1) * job.cin;
      continue;
    }
    T* a = tile.a;
    for (k1 = k0; k1 < smaller(k0 + job.depth, sizes.window.entries); ++k1, a += job.tile) {
      const int64_t tap = k1 / job.cin, c = k1 % job.cin;
      if (c == 0 && !is_read(tap)) break;
      const T* from[G::in_slots];
#pragma GCC unroll 8
      for (int g = 0; g < G::in_slots; ++g) {
        const int64_t place = tile.places[tap * G::in_slots + g];
        from[g] = place < 0 ? tile.zeros : tile.x + (g * tile.channels + c) * sizes.window.channel + place;
      }
      transform_planes<G>(from, tile.size, a, sizes.a_step);
    }
    for (int q = 0; q < G::rank; ++q)
      for (int64_t n = 0; n < job.cout; n += PANEL<T>) {
        const int64_t panel = smaller(PANEL<T>, width - n), rows = smaller(panel, job.cout - n);
        panel_product(vectors, rows, k1 - k0, filters + (q * width + n) * sizes.window.entries + k0 * panel, int64_t(1),
                      panel, tile.a + q * sizes.a_step, job.tile, tile.sums + q * sizes.s_step + n * job.tile, job.tile,
                      add);
      }
    add = true;
  }
  if (!add)
    for (int q = 0; q < G::rank; ++q) clear(tile.sums + q * sizes.s_step, job.cout * job.tile);
}

// y[h * slot + n * tile + ..] = the h-th entry of C sums, + bias, for the channels of one of the groups.
template <typename G, typename T>
static void planes_of_output(const PlanarJob<T>& job, const PlanarScratch<T>& sizes, const T* sums, int64_t size,
                             const T* bias, T* y, int64_t slot) {
  for (int64_t n = 0; n < job.cout; ++n, sums += job.tile, y += job.tile) {
    const T add = bias ? bias[n] : T(0);
    for (int64_t v = 0; v < size; v += LANES<T>) {
      Vector<T> p[G::rank], out[G::out_slots];
#pragma GCC unroll 16
      for (int q = 0; q < G::rank; ++q) load(p[q], sums + q * sizes.s_step + v);
      G::output(p, out);
#pragma GCC unroll 8
      for (int h = 0; h < G::out_slots; ++h) store(y + h * slot + v, out[h] + add);
    }
  }
}

// The pixels from `first` on, `size` of them, of all slots of a part of one of y's grids, from planes.
template <typename T>
static void write_tile(const PlanarJob<T>& job, const PlanarWindow<T>& window, const PlanarPart<T>& part, int64_t grid,
                       int64_t first, int64_t size, const T* planes) {
  const int64_t cout = job.cout / job.cosets, stride = job.groups * cout, count = part.groups * cout;
  const int64_t slots = job.out_slots * job.cosets, step = job.cosets * job.tile;
  const int64_t columns = ceil_div(job.out_w - grid % job.div_w, job.div_w);
  for (int64_t p = 0, run; p < size; p += run) {
    const int64_t i = (first + p) / window.pitch, j = (first + p) % window.pitch;
    const int64_t row = (part.top + i) * job.div_h + grid / job.div_w, column = j * job.div_w + grid % job.div_w;
    run = smaller(window.pitch - j, size - p);
    if (row >= job.out_h) return;
    for (int64_t s = 0; s < slots; ++s) {
      const int64_t line = (part.image * slots + s) * job.out_h + row;
      from_planes(planes + s / job.cosets * count * step + s % job.cosets * job.tile + p, step, smaller(columns - j, run),
                  count, job.y + (line * job.out_w + column) * stride + part.first * cout, stride * job.div_w);
    }
  }
}

// Items: parts of the rows x blocks of channels.
template <typename G, typename T>
static void planar_items(const PlanarJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const PlanarScratch<T> sizes(job);
  const PlanarWindow<T>& window = sizes.window;
  const int64_t blocks = ceil_div(job.groups, job.block);
  const int64_t group_size = G::rank * window.entries * padded(job.cout, LANES<T>);
  T* x = scratch;
  T* zeros = x + sizes.x;
  T* a = zeros + sizes.zeros;
  T* sums = a + G::rank * sizes.a_step;
  T* y = sums + G::rank * sizes.s_step;
  int64_t* places = reinterpret_cast<int64_t*>(y + sizes.y);
  clear(x, sizes.x + sizes.zeros);  // what lies between the rows is computed with, too
  window.find_places(job, places);

  for (int64_t item = begin; item < end; ++item) {
    const PlanarPart<T> part(job, window, item / blocks, item % blocks);
    read_window(job, window, part, x);
    const int64_t channels = part.groups * job.cin, slot = part.groups * job.cout * job.tile;
    for (int64_t grid = 0; grid < job.div_h * job.div_w; ++grid)
      for (int64_t m = 0; m < part.pixels; m += job.tile) {
        const int64_t size = smaller(job.tile, part.pixels - m);
        for (int64_t u = 0; u < part.groups; ++u) {
          const int64_t group = part.first + u;
          const PlanarTile<T> tile{x + u * job.cin * window.channel + m, zeros, channels, size,
                                   places + grid * job.taps * G::in_slots, a, sums};
          tile_products<G>(job, sizes, tile, job.filters + group * group_size);
          planes_of_output<G>(job, sizes, sums, size, job.bias ? job.bias + group * job.cout : nullptr,
                              y + u * job.cout * job.tile, slot);
        }
        write_tile(job, window, part, grid, m, size, y);
      }
  }
}

// ---- the weight gradient

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
  for (int64_t n = 0; n < job.cout; ++n)
    for (int64_t v = 0; v < part.pixels; v += LANES<T>) {
      Vector<T> y[G::out_slots], p[G::rank];
#pragma GCC unroll 8
      for (int h = 0; h < G::out_slots; ++h) load(y[h], grad + h * slot + n * sizes.pixels + v);
      G::output_adjoint(y, p);
#pragma GCC unroll 16
      for (int q = 0; q < G::rank; ++q) store(d + q * sizes.d_step + n * sizes.pixels + v, p[q]);
    }
  for (int64_t t = 0; t < job.taps; ++t) {
    for (int64_t c = 0; c < job.cin; ++c) {
      const T* from[G::in_slots];
      for (int g = 0; g < G::in_slots; ++g) from[g] = x + (g * channels + c) * window.channel + places[t * G::in_slots + g];
      transform_planes<G>(from, part.pixels, a + c * sizes.pixels, sizes.a_step);
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
