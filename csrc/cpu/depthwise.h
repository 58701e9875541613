// What both kinds of depthwise kernels (depthwise_fourier.h, depthwise_direct.h) share. Included like product.h.
//
// Pixels of one channel lie far apart, often by powers of two, which a cache of few ways does not like: a vector of channels
// of some rows is copied to where it lies densely, with zeros around it, and all slots and taps are taken from there.

// What rows begin .. end - 1 of y read of x, from its row `top` and column `left` on; they may lie outside.
struct DepthwiseWindow {
  int64_t top, left, rows, columns;

  template <typename T>
  DepthwiseWindow(const Depthwise<T>& job, int64_t begin, int64_t end) {
    int64_t low[2] = {job.shifts[0], job.shifts[1]}, high[2] = {low[0], low[1]};
    for (int64_t n = 1; n < job.shift_count; ++n)
      for (int64_t d = 0; d < 2; ++d) {
        low[d] = smaller(low[d], job.shifts[2 * n + d]);
        high[d] = larger(high[d], job.shifts[2 * n + d]);
      }
    top = floor_div(begin * job.mul_h + low[0], job.div_h);
    left = floor_div(low[1], job.div_w);
    rows = floor_div((end - 1) * job.mul_h + high[0], job.div_h) + 1 - top;
    columns = floor_div((job.out_w - 1) * job.mul_w + high[1], job.div_w) + 1 - left;
  }
};

// Channels n .. of a map's row, `channels` apart, as whole vectors.
template <typename T>
static void copy_lanes(const T* from, int64_t n, int64_t channels, int64_t count, T* to) {
  if (n + LANES<T> <= channels) {
    Vector<T> v;
    for (int64_t j = 0; j < count; ++j) {
      load(v, from + j * channels + n);
      store(to + j * LANES<T>, v);
    }
    return;
  }
  for (int64_t j = 0; j < count; ++j)
    for (int64_t l = 0; l < LANES<T>; ++l) to[j * LANES<T> + l] = n + l < channels ? from[j * channels + n + l] : T(0);
}

// Channels n .. of the window of all slots and cosets of an image.
template <typename T>
static void copy_window(const Depthwise<T>& job, const DepthwiseWindow& window, int64_t image, int64_t n, T* to) {
  const int64_t slots = job.in_slots * job.cosets;
  const int64_t begin = smaller(larger(-window.left, 0), window.columns);
  const int64_t end = larger(smaller(job.in_w - window.left, window.columns), begin);
  for (int64_t s = 0; s < slots; ++s)
    for (int64_t r = 0; r < window.rows; ++r, to += window.columns * LANES<T>) {
      const int64_t row = window.top + r;
      if (row < 0 || row >= job.in_h) {
        clear(to, window.columns * LANES<T>);
        continue;
      }
      const T* from = job.x + (((image * slots + s) * job.in_h + row) * job.in_w + window.left + begin) * job.cin;
      clear(to, begin * LANES<T>);
      copy_lanes(from, n, job.cin, end - begin, to + begin * LANES<T>);
      clear(to + end * LANES<T>, (window.columns - end) * LANES<T>);
    }
}

// Scalars of scratch for the window of any block of rows; rounding may take one row more than the first one needs.
template <typename T>
static int64_t window_scratch(const Depthwise<T>& job) {
  const DepthwiseWindow window(job, 0, job.rows);
  return job.in_slots * job.cosets * (window.rows + 1) * window.columns * LANES<T>;
}

// Channels n .. of some rows of the gradient of y, all slots: to[slot, row, column, lane].
template <typename Job, typename T>
static void copy_rows(const Job& job, int64_t image, int64_t top, int64_t rows, int64_t n, T* to) {
  const int64_t slots = job.out_slots * job.cosets, pixels = rows * job.out_w;
  for (int64_t s = 0; s < slots; ++s)
    copy_lanes(job.grad + ((image * slots + s) * job.out_h + top) * job.out_w * job.cout, n, job.cout, pixels,
               to + s * pixels * LANES<T>);
}

template <typename T>
GCNN_INLINE void store_lanes(T* to, const Vector<T>& v, int64_t lanes) {
  if (lanes == LANES<T>)
    store(to, v);
  else
    store_part(to, v, lanes);
}
