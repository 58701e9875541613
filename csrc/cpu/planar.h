// Convolutions of few channels, with pixels along the vectors. Included like product.h.
//
// The same sums as in gather.h; but channels that fill no vector waste the rest of it wherever they are read, transformed,
// multiplied and written. Here a part of x is copied to planes (planes.h), with zeros around it, in which successive pixels
// are neighbours for every tap. Filters are the scalars of the products.

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
      transform_input<G>(from, vectors * LANES<T>, a, sizes.a_step);
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
    map_slots<G::rank, G::out_slots>(sums, sizes.s_step, padded(size, LANES<T>), y, slot,
                                     [&](const auto& p, auto& out) __attribute__((always_inline)) {
                                       G::output(p, out);
#pragma GCC unroll 8
                                       for (int h = 0; h < G::out_slots; ++h) out[h] += add;
                                     });
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
