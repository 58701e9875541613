// A part of a map as planes of pixels, one for each slot and channel, and back. Included like product.h.

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
        load_steps(rows, from + c, stride);
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
      if (size == lanes && (count == lanes || (m + lanes - 1) * stride <= last)) {
        store_steps(to + m * stride + c, stride, rows);
        continue;
      }
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
