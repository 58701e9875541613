// What the convolution kernels share: places of pixels, and transforms of the channels of one pixel. Included like
// product.h.

// A pixel that is walked: its image, its index there, and row * mul and column * mul.
struct Pixel {
  int64_t image, index;
  int64_t row, column;
};

template <typename T>
GCNN_INLINE void find_pixels(const Correlation<T>& job, int64_t first, int64_t count, Pixel* pixels) {
  const int64_t size = job.out_h * job.out_w;
  int64_t image = first / size, index = first % size, row = index / job.out_w, column = index % job.out_w;
  for (int64_t m = 0; m < count; ++m) {
    pixels[m] = {image, index++, row * job.mul_h, column * job.mul_w};
    if (++column == job.out_w) {
      column = 0;
      if (++row == job.out_h) row = index = 0, ++image;
    }
  }
}

// The place of one coordinate, at = pixel * mul + shift (jobs.h), or -1.
GCNN_INLINE int64_t place(int64_t at, int64_t div, int64_t size) {
  if (div == 1) return static_cast<uint64_t>(at) < static_cast<uint64_t>(size) ? at : -1;
  return at >= 0 && at % div == 0 && at / div < size ? at / div : -1;
}

GCNN_INLINE int64_t padded(int64_t count, int64_t to) { return ceil_div(count, to) * to; }

// A row of scratch: whole vectors, and an odd number of them, so that rows do not fall on the same cache sets.
template <typename T>
GCNN_INLINE int64_t scratch_row(int64_t count) {
  return (ceil_div(count, LANES<T>) | 1) * LANES<T>;
}

// Scalars of scratch that hold `count` objects of type Object.
template <typename Object, typename T>
GCNN_INLINE int64_t scratch_of(int64_t count) {
  return padded(count * sizeof(Object), 64) / sizeof(T);
}

template <typename T>
GCNN_INLINE void clear(T* p, int64_t count) {
  for (int64_t i = 0; i < count; ++i) p[i] = T(0);
}

// f(c, V{}) for vectors V of channels c .. c + lanes - 1: full ones, and the last one moved back so that it ends with the
// row. Rows shorter than a vector take half vectors, down to scalars. So nothing outside of the row is touched.
template <typename T, int Bytes = GCNN_VECTOR_BYTES, typename F>
GCNN_INLINE void for_channels(int64_t count, const F& f) {
  if constexpr (Bytes <= static_cast<int>(sizeof(T))) {
    for (int64_t c = 0; c < count; ++c) f(c, T{});
  } else {
    constexpr int64_t lanes = Bytes / sizeof(T);
    if (count < lanes) return for_channels<T, (Bytes > 16 ? Bytes / 2 : static_cast<int>(sizeof(T)))>(count, f);
    for (int64_t c = 0; c + lanes <= count; c += lanes) f(c, Vector<T, Bytes>{});
    if (count % lanes) f(count - lanes, Vector<T, Bytes>{});
  }
}

template <typename T>
GCNN_INLINE void copy(const T* from, int64_t count, T* to) {
  for_channels<T>(count, [&](int64_t c, auto v) __attribute__((always_inline)) {
    load(v, from + c);
    store(to + c, v);
  });
}

// to[k * to_step + i] = the k-th result of f(in, out), in[s] = from[s * from_step + i], for `count` numbers i.
template <int In, int Out, typename T, typename F>
GCNN_INLINE void map_slots(const T* from, int64_t from_step, int64_t count, T* to, int64_t to_step, const F& f) {
  for_channels<T>(count, [&](int64_t i, auto zero) __attribute__((always_inline)) {
    decltype(zero) in[In], out[Out];
    load_steps(in, from + i, from_step);
    f(in, out);
    store_steps(to + i, to_step, out);
  });
}

// to[q * step + c] = the q-th entry of A z, z(g) = from[g][c].
template <typename G, typename T>
GCNN_INLINE void transform_input(const T* const (&from)[G::in_slots], int64_t count, T* to, int64_t step) {
  for_channels<T>(count, [&](int64_t c, auto zero) __attribute__((always_inline)) {
    using V = decltype(zero);
    V z[G::in_slots], a[G::rank];
#pragma GCC unroll 8
    for (int g = 0; g < G::in_slots; ++g) load(z[g], from[g] + c);
    G::input(z, a);
    store_steps(to + c, step, a);
  });
}

// f(m, from) for the pixels m of a tile: from[g] is slot g at the pixel's place for one tap, from channel c on. `zeros` stands
// for places outside.
template <typename G, typename T, typename F>
GCNN_INLINE void for_places(const Correlation<T>& job, int64_t tap, int64_t c, const Pixel* pixels, int64_t size,
                            const T* zeros, const F& f) {
  const int32_t* shifts = job.shifts + tap * G::in_slots * 2;
  const int64_t slot = job.in_h * job.in_w * job.cin;
  // Where no slot's place can be outside, pointers differ by constants.
  int64_t low_h = shifts[0], low_w = shifts[1], high_h = low_h, high_w = low_w, offsets[G::in_slots];
  for (int g = 0; g < G::in_slots; ++g) {
    low_h = smaller(low_h, shifts[2 * g]);
    low_w = smaller(low_w, shifts[2 * g + 1]);
    high_h = larger(high_h, shifts[2 * g]);
    high_w = larger(high_w, shifts[2 * g + 1]);
    offsets[g] = g * slot + (shifts[2 * g] * job.in_w + shifts[2 * g + 1]) * job.cin;
  }
  const bool whole = job.div_h == 1 && job.div_w == 1;
  for (int64_t m = 0; m < size; ++m) {
    const T* from[G::in_slots];
    const T* image = job.x + pixels[m].image * G::in_slots * slot + c;
    const int64_t row = pixels[m].row, column = pixels[m].column;
    if (whole && row + low_h >= 0 && row + high_h < job.in_h && column + low_w >= 0 && column + high_w < job.in_w) {
      const T* centre = image + (row * job.in_w + column) * job.cin;
#pragma GCC unroll 8
      for (int g = 0; g < G::in_slots; ++g) from[g] = centre + offsets[g];
    } else {
      for (int g = 0; g < G::in_slots; ++g) {
        const int64_t i = place(row + shifts[2 * g], job.div_h, job.in_h);
        const int64_t j = place(column + shifts[2 * g + 1], job.div_w, job.in_w);
        from[g] = (i | j) < 0 ? zeros : image + g * slot + (i * job.in_w + j) * job.cin;
      }
    }
    f(m, from);
  }
}

// Transformed channels c .. c + count - 1 of one tap: to[q * step + m * row + ..].
template <typename G, typename T>
static void gather_input(const Correlation<T>& job, int64_t tap, int64_t c, int64_t count, const Pixel* pixels,
                         int64_t size, const T* zeros, T* to, int64_t row, int64_t step) {
  for_places<G>(job, tap, c, pixels, size, zeros,
                [&](int64_t m, const T* const(&from)[G::in_slots]) __attribute__((always_inline)) {
                  transform_input<G>(from, count, to + m * row, step);
                });
}

// The same from an image, without a transform. Taps that are neighbours in memory are copied together.
template <typename T>
static void gather_image(const Correlation<T>& job, int64_t tap, int64_t taps, const Pixel* pixels, int64_t size,
                         const T* zeros, T* to, int64_t row) {
  const int32_t* shifts = job.shifts + tap * 2;
  const auto neighbours = [&](int64_t t) {
    return shifts[2 * t] == shifts[2 * t - 2] && shifts[2 * t + 1] == shifts[2 * t - 1] + 1;
  };
  for (int64_t t = 0, run; t < taps; t += run) {
    for (run = 1; t + run < taps && job.div_w == 1 && neighbours(t + run);) ++run;
    for (int64_t m = 0; m < size; ++m) {
      const T* image = job.x + pixels[m].image * job.in_h * job.in_w * job.cin;
      const int64_t i = place(pixels[m].row + shifts[2 * t], job.div_h, job.in_h);
      const int64_t column = pixels[m].column + shifts[2 * t + 1];
      T* place_to = to + m * row + t * job.cin;
      if (i >= 0 && job.div_w == 1 && column >= 0 && column + run <= job.in_w) {
        copy(image + (i * job.in_w + column) * job.cin, run * job.cin, place_to);
        continue;
      }
      for (int64_t n = 0; n < run; ++n, place_to += job.cin) {
        const int64_t j = place(column + n, job.div_w, job.in_w);
        copy((i | j) < 0 ? zeros : image + (i * job.in_w + j) * job.cin, job.cin, place_to);
      }
    }
  }
}

// Whether the map is read pixel by pixel: 1 x 1 filters, no stride, no padding.
template <typename T>
GCNN_INLINE bool is_pointwise(const Correlation<T>& job) {
  return job.taps == 1 && job.shifts[0] == 0 && job.shifts[1] == 0 && job.mul_h == 1 && job.mul_w == 1 &&
         job.div_h == 1 && job.div_w == 1 && job.in_h == job.out_h && job.in_w == job.out_w;
}

// The same for a pointwise convolution: all channels of successive pixels of an image as one row.
template <typename G, typename T>
static void gather_pixels(const Correlation<T>& job, const Pixel* pixels, int64_t size, T* to, int64_t step) {
  const int64_t image_size = job.in_h * job.in_w, slot = image_size * job.cin;
  for (int64_t m = 0, run; m < size; m += run) {
    run = smaller(size - m, image_size - pixels[m].index);
    const T* from[G::in_slots];
    for (int g = 0; g < G::in_slots; ++g)
      from[g] = job.x + (pixels[m].image * G::in_slots + g) * slot + pixels[m].index * job.cin;
    transform_input<G>(from, run * job.cin, to + m * job.cin, step);
  }
}

// Scratch that gather_taps needs for a tile.
template <typename T>
GCNN_INLINE int64_t gather_taps_scratch(const Correlation<T>& job, int64_t tile, int64_t row) {
  return job.rank > 1 && job.cin < LANES<T> ? job.in_slots * tile * row : 0;
}

// All channels of several taps, (tap, channel) in succession. Channels that fill no vector are collected before they are
// transformed, all pixels as one row.
template <typename G, typename T>
static void gather_taps(const Correlation<T>& job, int64_t tap, int64_t taps, const Pixel* pixels, int64_t size,
                        const T* zeros, T* to, int64_t row, int64_t step, T* collected) {
  if constexpr (G::in_slots == 1) return gather_image(job, tap, taps, pixels, size, zeros, to, row);
  if (row == job.cin && is_pointwise(job)) return gather_pixels<G>(job, pixels, size, to, step);
  if (G::rank == 1 || job.cin >= LANES<T>) {
    for (int64_t t = 0; t < taps; ++t)
      gather_input<G>(job, tap + t, 0, job.cin, pixels, size, zeros, to + t * job.cin, row, step);
    return;
  }
  const T* from[G::in_slots];
  for (int g = 0; g < G::in_slots; ++g) from[g] = collected + g * size * row;
  for (int64_t t = 0; t < taps; ++t)
    for_places<G>(job, tap + t, 0, pixels, size, zeros,
                  [&](int64_t m, const T* const(&places)[G::in_slots]) __attribute__((always_inline)) {
                    T* z = collected + m * row + t * job.cin;
#pragma GCC unroll 8
                    for (int g = 0; g < G::in_slots; ++g, z += size * row) copy(places[g], job.cin, z);
                  });
  transform_input<G>(from, size * row, to, step);
}
