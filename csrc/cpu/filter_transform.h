// Filters to their transforms and back. Included like product.h. Items are rows, the channels that are summed over, of all sets.

template <typename T>
static int64_t filter_scratch(const FilterJob<T>& job) {
  return job.size * LANES<T>;
}

// packed[q][panel][row][column of the panel] = sum_u matrix[q, u] w[sources[tap, u]].
template <typename T>
static void pack_filters(const FilterJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  using V = Vector<T>;
  const auto packed = [&](int64_t set, int64_t tap, int64_t q, int64_t i, int64_t n) {
    const int64_t row = i + tap * job.tap_row + q * job.q_row, column = n + tap * job.tap_column + q * job.q_column;
    const int64_t start = column / PANEL<T> * PANEL<T>, panel = smaller(PANEL<T>, job.width - start);
    return job.packed + set * job.set_size + ((job.planes ? q * job.width : 0) + start) * job.depth + row * panel + (column - start);
  };
  const bool whole_vectors = job.tap_column % LANES<T> == 0 && job.q_column % LANES<T> == 0;
  for (int64_t item = begin; item < end; ++item)
    for (int64_t n = 0; n < job.columns; n += LANES<T>) {
      const int64_t set = item / job.rows, i = item % job.rows;
      const int64_t lanes = smaller(LANES<T>, job.columns - n);
      for (int64_t lane = 0; lane < LANES<T>; ++lane) {
        const T* from = job.filters + set * job.set_stride + (n + lane) * job.column_stride + i * job.row_stride;
        for (int64_t s = 0; s < job.size; ++s) scratch[s * LANES<T> + lane] = lane < lanes ? from[s] : T(0);
      }
      for (int64_t tap = 0; tap < job.taps; ++tap)
        for (int64_t q = 0; q < job.rank; ++q) {
          V sum{};
          for (int64_t u = 0; u < job.order; ++u) {
            V w;
            load(w, scratch + job.sources[tap * job.order + u] * LANES<T>);
            sum += job.matrix[q * job.order + u] * w;
          }
          if (whole_vectors) {
            store(packed(set, tap, q, i, n), sum);
          } else {
            T part[LANES<T>];
            store(part, sum);
            for (int64_t lane = 0; lane < lanes; ++lane) *packed(set, tap, q, i, n + lane) = part[lane];
          }
        }
    }
}

// The adjoint: filters_grad[sources[tap, u]] += sum_q matrix[q, u] products[tap, q].
template <typename T>
static void unpack_products(const FilterJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  using V = Vector<T>;
  for (int64_t item = begin; item < end; ++item)
    for (int64_t n = 0; n < job.columns; n += LANES<T>) {
      const int64_t set = item / job.rows, i = item % job.rows;
      clear(scratch, job.size * LANES<T>);
      for (int64_t tap = 0; tap < job.taps; ++tap) {
        const int64_t t = tap % job.group;
        const T* from = job.products + set * job.set_size + tap / job.group * job.group_step + (i + t * job.tap_row) * job.width + n +
                        t * job.tap_column;
        for (int64_t u = 0; u < job.order; ++u) {
          T* to = scratch + job.sources[tap * job.order + u] * LANES<T>;
          V sum, p;
          load(sum, to);
          for (int64_t q = 0; q < job.rank; ++q) {
            load(p, from + q * (job.q_step + job.q_column));
            sum += job.matrix[q * job.order + u] * p;
          }
          store(to, sum);
        }
      }
      for (int64_t lane = 0; lane < smaller(LANES<T>, job.columns - n); ++lane) {
        T* to = job.filters_grad + set * job.set_stride + (n + lane) * job.column_stride + i * job.row_stride;
        for (int64_t s = 0; s < job.size; ++s) to[s] = scratch[s * LANES<T> + lane];
      }
    }
}
