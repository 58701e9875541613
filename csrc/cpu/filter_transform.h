// Filters to their transforms and back. Included like product.h. Items are rows, the channels that are summed over, of all sets.

template <typename T>
static int64_t filter_scratch(const FilterJob<T>& job) {
  return job.size * LANES<T>;
}

// f(Constant<order>{}, set, i, n) for vectors of columns n .. of row i of a set, for rows begin .. end of all sets; Constant<0>
// for orders that are known at run time only.
template <typename T, typename F>
static void for_vectors_of_columns(const FilterJob<T>& job, int64_t begin, int64_t end, const F& f) {
  const auto loops = [&](auto order) {
    for (int64_t item = begin; item < end; ++item)
      for (int64_t n = 0; n < job.columns; n += LANES<T>) f(order, item / job.rows, item % job.rows, n);
  };
  job.order == 8 ? loops(Constant<8>{}) : job.order == 4 ? loops(Constant<4>{}) : loops(Constant<0>{});
}

// Where the transforms of row i and columns n .. of a set go, by tap and by q. Their addresses are found once where neither
// counts among the columns.
template <typename T>
struct PackedFilters {
  const FilterJob<T>& job;
  T* set;
  int64_t i, n;
  bool fixed = job.tap_column == 0 && job.q_column == 0;
  int64_t panel = panel_at(n);
  T* first = at(0, 0, n);

  int64_t start(int64_t column) const { return column / PANEL<T> * PANEL<T>; }
  int64_t panel_at(int64_t column) const { return smaller(PANEL<T>, job.width - start(column)); }

  T* at(int64_t tap, int64_t q, int64_t lane_column) const {
    const int64_t row = i + tap * job.tap_row + q * job.q_row, column = lane_column + tap * job.tap_column + q * job.q_column;
    return set + ((job.planes ? q * job.width : 0) + start(column)) * job.depth + row * panel_at(column) + column - start(column);
  }
  T* at(int64_t tap, int64_t q) const {
    if (!fixed) return at(tap, q, n);
    return first + (job.planes ? q * job.width * job.depth : 0) + (tap * job.tap_row + q * job.q_row) * panel;
  }
};

// packed[q][panel][row][column of the panel] = sum_u matrix[q, u] w[sources[tap, u]], of a vector of columns.
template <int Order, typename T>
static void pack_vector(const FilterJob<T>& job, const PackedFilters<T>& packed, const T* entries) {
  using V = Vector<T>;
  const int64_t order = Order ? Order : job.order, lanes = smaller(LANES<T>, job.columns - packed.n);
  const bool whole_vectors = job.tap_column % LANES<T> == 0 && job.q_column % LANES<T> == 0;
  for (int64_t tap = 0; tap < job.taps; ++tap) {
    const int64_t* sources = job.sources + tap * order;
    V w[Order ? Order : 1];
#pragma GCC unroll 8
    for (int u = 0; u < Order; ++u) load(w[u], entries + sources[u] * LANES<T>);
    for (int64_t q = 0; q < job.rank; ++q) {
      const T* matrix = job.matrix + q * order;
      V sum{};
#pragma GCC unroll 8
      for (int64_t u = 0; u < order; ++u) {
        if constexpr (Order == 0) load(w[0], entries + sources[u] * LANES<T>);
        sum += matrix[u] * w[Order ? u : 0];
      }
      if (whole_vectors) {
        store(packed.at(tap, q), sum);
      } else {
        T part[LANES<T>];
        store(part, sum);
        for (int64_t lane = 0; lane < lanes; ++lane) *packed.at(tap, q, packed.n + lane) = part[lane];
      }
    }
  }
}

template <typename T>
static void pack_filters(const FilterJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  clear(scratch, filter_scratch(job));  // padding is packed and multiplied, too
  for_vectors_of_columns(job, begin, end, [&](auto order, int64_t set, int64_t i, int64_t n) {
    const T* from = job.filters + set * job.set_stride + n * job.column_stride + i * job.row_stride;
    to_planes(from, job.column_stride, smaller(LANES<T>, job.columns - n), job.size, job.filters_end, scratch, LANES<T>);
    pack_vector<order.value>(job, PackedFilters<T>{job, job.packed + set * job.set_size, i, n}, scratch);
  });
}

// The adjoint: filters_grad[sources[tap, u]] += sum_q matrix[q, u] products[tap, q], of a vector of columns.
template <int Order, typename T>
static void unpack_vector(const FilterJob<T>& job, const T* products, T* entries) {
  using V = Vector<T>;
  const int64_t order = Order ? Order : job.order, q_step = job.q_step + job.q_column;
  for (int64_t tap = 0; tap < job.taps; ++tap) {
    const int64_t t = tap % job.group, *sources = job.sources + tap * order;
    const T* from = products + tap / job.group * job.group_step + t * (job.tap_row * job.width + job.tap_column);
    constexpr int together = Order ? Order : 1;
    for (int64_t first = 0; first < order; first += together) {
      V sums[together] = {}, v;
      for (int64_t q = 0; q < job.rank; ++q) {
        load(v, from + q * q_step);
#pragma GCC unroll 8
        for (int u = 0; u < together; ++u) sums[u] += job.matrix[q * order + first + u] * v;
      }
      // One by one: several may belong to the same entry.
#pragma GCC unroll 8
      for (int u = 0; u < together; ++u) {
        T* to = entries + sources[first + u] * LANES<T>;
        load(v, to);
        store(to, v + sums[u]);
      }
    }
  }
}

template <typename T>
static void unpack_products(const FilterJob<T>& job, int64_t begin, int64_t end, T* scratch) {
  for_vectors_of_columns(job, begin, end, [&](auto order, int64_t set, int64_t i, int64_t n) {
    clear(scratch, job.size * LANES<T>);
    unpack_vector<order.value>(job, job.products + set * job.set_size + i * job.width + n, scratch);
    from_planes(scratch, LANES<T>, smaller(LANES<T>, job.columns - n), job.size,
                job.filters_grad + set * job.set_stride + n * job.column_stride + i * job.row_stride, job.column_stride);
  });
}
