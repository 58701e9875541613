// The linear layer between functions on the group, by the bilinear algorithm (bilinear.h). Included like product.h.
//
// Tokens are [channel, slot], so that reading them into planes of coefficients, [token, channel] one after another, and writing
// the sums back are transpositions as well as transforms; each number is read and written once.

// Scratch: coefficients of some channels of a tile of tokens; their products' sums, or the transformed gradient.
template <typename T>
struct LinearScratch {
  int64_t a_step, s_row, s_step;

  explicit LinearScratch(const Linear<T>& job)
      : a_step(scratch_row<T>(job.tile * smaller(job.depth, job.cin) + LANES<T>)),
        s_row(padded(job.cout, LANES<T>)),
        s_step(scratch_row<T>(job.tile * s_row)) {}

  int64_t total(const Linear<T>& job) const { return job.rank * (a_step + s_step); }
};

template <typename T>
static int64_t linear_scratch(const Linear<T>& job) {
  return LinearScratch<T>(job).total(job);
}

// to[q * step + c] = the q-th result of f(in, out), in[h] = from[c * slots + h], for `count` channels c.
template <int Slots, int Out, typename T, typename F>
GCNN_INLINE void split_slots(const T* from, int64_t count, T* to, int64_t step, const F& f) {
#pragma omp simd
  for (int64_t c = 0; c < count; ++c) {
    T in[Slots], out[Out];
#pragma GCC unroll 8
    for (int h = 0; h < Slots; ++h) in[h] = from[c * Slots + h];
    f(in, out);
#pragma GCC unroll 16
    for (int q = 0; q < Out; ++q) to[q * step + c] = out[q];
  }
}

// Items: tiles of tokens.
template <typename G, typename T>
static void linear_items(const LinearJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const LinearScratch<T> sizes(job);
  T* a = scratch;
  T* sums = a + G::rank * sizes.a_step;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item * job.tile, size = smaller(job.tile, job.tokens - first);
    for (int64_t k = 0; k < job.cin; k += job.depth) {
      const int64_t depth = smaller(job.depth, job.cin - k);
      const bool whole = depth == job.cin;  // all tokens are one row
      for (int64_t m = 0; m < (whole ? 1 : size); ++m)
        split_slots<G::in_slots, G::rank>(job.x + ((first + m) * job.cin + k) * G::in_slots, whole ? size * depth : depth,
                                          a + m * depth, sizes.a_step,
                                          [](const auto& z, auto& f) __attribute__((always_inline)) { G::input(z, f); });
      for (int q = 0; q < G::rank; ++q)
        for (int64_t n = 0; n < sizes.s_row; n += PANEL<T>) {
          const int64_t panel = smaller(PANEL<T>, sizes.s_row - n);
          panel_product(panel / LANES<T>, size, depth, a + q * sizes.a_step, depth, int64_t(1),
                        job.filters + (q * sizes.s_row + n) * job.cin + k * panel, panel, sums + q * sizes.s_step + n,
                        sizes.s_row, k > 0);
        }
    }
    for (int64_t m = 0; m < size; ++m) {
      const T* from = sums + m * sizes.s_row;
      T* y = job.y + (first + m) * job.cout * G::out_slots;
#pragma omp simd
      for (int64_t n = 0; n < job.cout; ++n) {
        T p[G::rank], out[G::out_slots];
#pragma GCC unroll 16
        for (int q = 0; q < G::rank; ++q) p[q] = from[q * sizes.s_step + n];
        G::output(p, out);
        const T add = job.bias ? job.bias[n] : T(0);
#pragma GCC unroll 8
        for (int h = 0; h < G::out_slots; ++h) y[n * G::out_slots + h] = out[h] + add;
      }
    }
  }
}

// Items: parts of the tokens x blocks of `depth` channels of x.
template <typename G, typename T>
static void linear_weight_grad_items(const LinearGradJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  const LinearScratch<T> sizes(job);
  const int64_t blocks = ceil_div(job.cin, job.depth), tiles = ceil_div(job.tokens, job.tile);
  T* a = scratch;
  T* d = a + G::rank * sizes.a_step;
  clear(scratch, sizes.total(job));  // padding is multiplied too
  for (int64_t item = begin; item < end; ++item) {
    const int64_t part = item / blocks, k = item % blocks * job.depth, depth = smaller(job.depth, job.cin - k);
    const int64_t start = part * tiles / job.parts, stop = (part + 1) * tiles / job.parts;
    for (int64_t tile = start; tile < stop; ++tile) {
      const int64_t first = tile * job.tile, size = smaller(job.tile, job.tokens - first);
      for (int64_t m = first; m < first + size; ++m) {
        split_slots<G::in_slots, G::rank>(job.x + (m * job.cin + k) * G::in_slots, depth, a + (m - first) * depth,
                                          sizes.a_step,
                                          [](const auto& z, auto& f) __attribute__((always_inline)) { G::input(z, f); });
        split_slots<G::out_slots, G::rank>(job.grad + m * job.cout * G::out_slots, job.cout, d + (m - first) * sizes.s_row,
                                           sizes.s_step, [](const auto& y, auto& p) __attribute__((always_inline)) {
                                             G::output_adjoint(y, p);
                                           });
      }
      for (int q = 0; q < G::rank; ++q)
        for (int64_t n = 0; n < sizes.s_row; n += PANEL<T>)
          panel_product(smaller(PANEL_VECTORS, (sizes.s_row - n) / LANES<T>), depth, size, a + q * sizes.a_step, int64_t(1),
                        depth, d + q * sizes.s_step + n, sizes.s_row,
                        job.products + part * job.products_size + (q * job.cin + k) * sizes.s_row + n, sizes.s_row,
                        tile > start);
    }
  }
}
