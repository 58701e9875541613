// Depthwise convolutions without a transform, of any group: the filters of a map are a matrix of slots for every tap. Included
// like product.h. Vectors lie along channels; no filter stack is made.

// Scratch: the window; the filters that a pixel reads, [slots / Slots, places, Slots, lanes], or the sums of all pairs of slots
// and taps and the window of the gradient; bias; where in the window a pixel reads.
template <typename T>
struct DirectScratch {
  int64_t x, filters, grad, places;

  explicit DirectScratch(const DirectDepthwise<T>& job, bool with_grad = false)
      : x(window_scratch(job)),
        filters(job.out_slots * entries(job) * LANES<T> * (with_grad ? ceil_div(job.cin, LANES<T>) : 1)),
        grad(with_grad ? job.out_slots * job.rows * job.out_w * LANES<T> : 0),
        places(scratch_of<int64_t, T>(entries(job))) {}

  // That a pixel of one slot reads.
  static int64_t entries(const DirectDepthwise<T>& job) { return job.in_slots * job.taps; }
  int64_t total() const { return x + filters + grad + LANES<T> + places; }
};

template <typename T>
static int64_t direct_scratch(const DirectJob<T>& job) {
  return DirectScratch<T>(job).total();
}

template <typename T>
static int64_t direct_grad_scratch(const DirectGradJob<T>& job) {
  return DirectScratch<T>(job, true).total();
}

// `Pixels` pixels, x_step apart in the window and y_step in y, `Slots` slots of y.
template <int Slots, int Pixels, typename T>
static void direct_pixels(const int64_t* places, int64_t count, const T* x, int64_t x_step, const T* filters, const T* bias,
                          T* y, int64_t y_slot, int64_t y_step, int64_t lanes) {
  using V = Vector<T>;
  V sums[Pixels][Slots];
#pragma GCC unroll 8
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 4
    for (int h = 0; h < Slots; ++h) load(sums[p][h], bias);
  for (int64_t n = 0; n < count; ++n) {
    V values[Pixels], w;
#pragma GCC unroll 8
    for (int p = 0; p < Pixels; ++p) load(values[p], x + places[n] + p * x_step);
#pragma GCC unroll 4
    for (int h = 0; h < Slots; ++h, filters += LANES<T>) {
      load(w, filters);
#pragma GCC unroll 8
      for (int p = 0; p < Pixels; ++p) sums[p][h] += w * values[p];
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < Pixels; ++p)
#pragma GCC unroll 4
    for (int h = 0; h < Slots; ++h) store_lanes(y + h * y_slot + p * y_step, sums[p][h], lanes);
}

// Some pixels of one row of y. x: what the first one's places count from.
template <int Slots, typename T>
static void direct_row(const DirectJob<T>& job, const int64_t* places, int64_t count, const T* x, const T* filters,
                       const T* bias, T* y, int64_t pixels, int64_t lanes) {
  // As many sums as registers hold beside a filter and what is read.
  constexpr int registers = GCNN_VECTOR_BYTES == 64 ? 24 : 12, block = registers / Slots < 8 ? registers / Slots : 8;
  const int64_t x_step = job.mul_w * LANES<T>, y_step = job.div_w * job.cout, y_slot = job.out_h * job.out_w * job.cout;
  for (int64_t h = 0; h < job.out_slots; h += Slots, y += Slots * y_slot, filters += count * Slots * LANES<T>) {
    // The last block goes over pixels that the one before it has done already.
    for (int64_t m = 0; m < pixels && pixels >= block; m += block) {
      const int64_t at = smaller(m, pixels - block);
      direct_pixels<Slots, block>(places, count, x + at * x_step, x_step, filters, bias, y + at * y_step, y_slot, y_step,
                                  lanes);
    }
    for (int64_t m = 0; m < pixels && pixels < block; ++m)
      direct_pixels<Slots, 1>(places, count, x + m * x_step, x_step, filters, bias, y + m * y_step, y_slot, y_step, lanes);
  }
}

// What pixel (i, j) of y reads, and those that are div apart: how many places, and the filters for channels n .. Where div is
// 1 that holds for all pixels, so nothing is left out although it lies outside.
template <int Slots, typename T>
static int64_t find_reads(const DirectJob<T>& job, const DepthwiseWindow& window, int64_t i, int64_t j, int64_t n,
                          int64_t* places, T* filters) {
  const int64_t all = DirectScratch<T>::entries(job);
  int64_t count = 0;
  for (int64_t h = 0; h < job.out_slots; h += Slots)
    for (int64_t t = 0; t < job.taps; ++t) {
      const int64_t row = i * job.mul_h + job.shifts[2 * t], column = j * job.mul_w + job.shifts[2 * t + 1];
      if (row % job.div_h || column % job.div_w) continue;
      const int64_t r = floor_div(row, job.div_h) - window.top, k = floor_div(column, job.div_w) - window.left;
      for (int64_t s = 0; s < job.in_slots; ++s) {
        if (h == 0) places[count++] = ((s * window.rows + r) * window.columns + k) * LANES<T>;
        for (int64_t l = 0; l < Slots; ++l, filters += LANES<T>)
          copy_lanes(job.filters + job.table[(h + l) * all + s * job.taps + t] * job.cin, n, job.cin, int64_t(1), filters);
      }
    }
  return count;
}

// Items: images x blocks of rows of y.
template <int Slots, typename T>
static void direct_items(const DirectJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const DirectScratch<T> sizes(job);
  T* x = scratch;
  T* filters = x + sizes.x;
  T* bias = filters + sizes.filters;
  int64_t* places = reinterpret_cast<int64_t*>(bias + LANES<T>);
  clear(bias, LANES<T>);
  const int64_t down = ceil_div(job.out_h, job.rows);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t image = item / down, top = item % down * job.rows, bottom = smaller(top + job.rows, job.out_h);
    const DepthwiseWindow window(job, top, bottom);
    for (int64_t n = 0; n < job.cin; n += LANES<T>) {
      const int64_t lanes = smaller(LANES<T>, job.cin - n);
      copy_window(job, window, image, n, x);
      if (job.bias) copy_lanes(job.bias, n, job.cin, int64_t(1), bias);
      for (int64_t i = top; i < smaller(top + job.div_h, bottom); ++i)
        for (int64_t j = 0; j < smaller(job.div_w, job.out_w); ++j) {
          const int64_t count = find_reads<Slots>(job, window, i, j, n, places, filters);
          const T* from = x;
          for (int64_t row = i; row < bottom; row += job.div_h, from += job.mul_h * window.columns * LANES<T>) {
            T* y = job.y + ((image * job.out_slots * job.out_h + row) * job.out_w + j) * job.cout + n;
            direct_row<Slots>(job, places, count, from, filters, bias, y, ceil_div(job.out_w - j, job.div_w), lanes);
          }
        }
    }
  }
}

// sums[h, s] += the sum of grad(h, p) x(s, place of p) over some rows of grad.
template <int Slots, int XSlots, typename T>
static void direct_products(const T* grad, int64_t grad_slot, const T* x, int64_t x_slot, int64_t x_row, int64_t x_step,
                            int64_t rows, int64_t columns, T* sums, int64_t h_step, int64_t s_step) {
  using V = Vector<T>;
  V total[Slots][XSlots];
#pragma GCC unroll 4
  for (int h = 0; h < Slots; ++h)
#pragma GCC unroll 2
    for (int s = 0; s < XSlots; ++s) load(total[h][s], sums + h * h_step + s * s_step);
  for (int64_t i = 0; i < rows; ++i, x += x_row) {
    const T* from = x;
    for (int64_t j = 0; j < columns; ++j, grad += LANES<T>, from += x_step) {
      V values[XSlots], g;
#pragma GCC unroll 2
      for (int s = 0; s < XSlots; ++s) load(values[s], from + s * x_slot);
#pragma GCC unroll 4
      for (int h = 0; h < Slots; ++h) {
        load(g, grad + h * grad_slot);
#pragma GCC unroll 2
        for (int s = 0; s < XSlots; ++s) total[h][s] += g * values[s];
      }
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < Slots; ++h)
#pragma GCC unroll 2
    for (int s = 0; s < XSlots; ++s) store(sums + h * h_step + s * s_step, total[h][s]);
}

// Items: parts of the images' blocks of rows.
template <int Slots, int XSlots, typename T>
static void direct_weight_grad_items(const DirectGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const DirectScratch<T> sizes(job, true);
  const int64_t entries = DirectScratch<T>::entries(job), pairs = job.out_slots * entries;
  const int64_t down = ceil_div(job.out_h, job.rows), items = job.batch * down;
  T* x = scratch;
  T* sums = x + sizes.x;
  T* grad = sums + sizes.filters;
  for (int64_t part = begin; part < end; ++part) {
    // A vector of channels after the other, each with the sums of all pairs of slots and taps.
    clear(sums, sizes.filters);
    for (int64_t item = part * items / job.parts; item < (part + 1) * items / job.parts; ++item) {
      const int64_t image = item / down, top = item % down * job.rows, rows = smaller(job.rows, job.out_h - top);
      const DepthwiseWindow window(job, top, top + rows);
      const int64_t x_slot = window.rows * window.columns * LANES<T>, grad_slot = rows * job.out_w * LANES<T>;
      T* to = sums;
      for (int64_t n = 0; n < job.cin; n += LANES<T>, to += pairs * LANES<T>) {
        copy_window(job, window, image, n, x);
        copy_rows(job, image, top, rows, n, grad);
        for (int64_t t = 0; t < job.taps; ++t) {
          const int64_t r = top * job.mul_h + job.shifts[2 * t] - window.top, k = job.shifts[2 * t + 1] - window.left;
          for (int64_t h = 0; h < job.out_slots; h += Slots)
            for (int64_t s = 0; s < job.in_slots; s += XSlots)
              direct_products<Slots, XSlots>(grad + h * grad_slot, grad_slot,
                                             x + s * x_slot + (r * window.columns + k) * LANES<T>, x_slot,
                                             job.mul_h * window.columns * LANES<T>, job.mul_w * LANES<T>, rows, job.out_w,
                                             to + (h * entries + s * job.taps + t) * LANES<T>, entries * LANES<T>,
                                             job.taps * LANES<T>);
        }
      }
    }
    T* products = job.products + part * job.products_size;
    const T* from = sums;
    clear(products, job.products_size);
    for (int64_t n = 0; n < job.cin; n += LANES<T>)
      for (int64_t k = 0; k < pairs; ++k, from += LANES<T>)
        for (int64_t l = 0; l < smaller(LANES<T>, job.cin - n); ++l) products[job.table[k] * job.cin + n + l] += from[l];
  }
}
