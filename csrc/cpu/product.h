// Vectors and the register-blocked matrix product. Included once per instruction set, inside that set's namespace, with
// GCNN_VECTOR_BYTES set and the set switched on for all functions; so nothing of the standard library is used here.

template <typename T, int Bytes>
struct VectorOf {
  typedef T type __attribute__((vector_size(Bytes)));
};
template <typename T, int Bytes = GCNN_VECTOR_BYTES>
using Vector = typename VectorOf<T, Bytes>::type;

template <typename T>
constexpr int LANES = GCNN_VECTOR_BYTES / sizeof(T);
constexpr int PANEL_VECTORS = 3;
template <typename T>
constexpr int PANEL = PANEL_VECTORS * LANES<T>;

#define GCNN_INLINE static inline __attribute__((always_inline))

// Keeps the compiler from reading v from memory again for each of its uses.
#if defined(__x86_64__)
#define GCNN_IN_REGISTER(v) __asm__("" : "+v"(v))
#else
#define GCNN_IN_REGISTER(v)
#endif

// Keeps the compiler from turning offsets from pointer p into as many pointers, more than there are registers for.
#define GCNN_AS_BASE(p) __asm__("" : "+r"(p))

template <typename V, typename T>
GCNN_INLINE void load(V& v, const T* p) {
  __builtin_memcpy(&v, p, sizeof v);
}

template <typename V, typename T>
GCNN_INLINE void store(T* p, const V& v) {
  __builtin_memcpy(p, &v, sizeof v);
}

// Vectors at p, p + step, p + 2 step, ..
template <int N, typename V, typename T>
GCNN_INLINE void load_steps(V (&v)[N], const T* p, int64_t step) {
#pragma GCC unroll 16
  for (int k = 0; k < N; ++k, p += step) {
    GCNN_AS_BASE(p);
    load(v[k], p);
  }
}

template <int N, typename V, typename T>
GCNN_INLINE void store_steps(T* p, int64_t step, const V (&v)[N]) {
#pragma GCC unroll 16
  for (int k = 0; k < N; ++k, p += step) {
    GCNN_AS_BASE(p);
    store(p, v[k]);
  }
}

// The first `count` lanes, fewer than all.
template <typename V, typename T>
GCNN_INLINE void store_part(T* p, const V& v, int64_t count) {
  T part[sizeof v / sizeof(T)];
  store(part, v);
  const T* from = part;
#pragma GCC unroll 4
  for (int lanes = sizeof v / sizeof(T) / 2; lanes > 0; lanes /= 2)
    if (count & lanes) {
      __builtin_memcpy(p, from, lanes * sizeof(T));
      p += lanes;
      from += lanes;
    }
}

template <int N>
struct Constant {
  static constexpr int value = N;
};

GCNN_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
GCNN_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// c[i, j] += sum_k a[i * row + k * step] * b[k * b_step + j] for Rows rows and Vectors vectors of columns. Meanwhile
// ahead[k * ahead_step] comes into the second-level cache.
template <typename T, int Rows, int Vectors>
static void product(int64_t depth, const T* a, int64_t row, int64_t step, const T* b, int64_t b_step, T* c,
                    int64_t c_step, bool add, const T* ahead, int64_t ahead_step) {
  using V = Vector<T>;
  V sum[Rows][Vectors];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) sum[i][j] = V{};
  for (int64_t k = 0; k < depth; ++k, a += step, b += b_step, ahead += ahead_step) {
    __builtin_prefetch(ahead, 0, 2);
    V columns[Vectors];
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) load(columns[j], b + j * LANES<T>);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const T scalar = a[i * row];
#pragma GCC unroll 4
      for (int j = 0; j < Vectors; ++j) sum[i][j] += scalar * columns[j];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < Vectors; ++j) {
      T* place = c + i * c_step + j * LANES<T>;
      if (add) {
        V before;
        load(before, place);
        sum[i][j] += before;
      }
      store(place, sum[i][j]);
    }
}

// Rows per register block: as many accumulators as the registers hold beside one row of b, at least as many as the
// latency of a multiply-add needs (2 x 4 on current cores).
template <int Vectors>
constexpr int ROWS = GCNN_VECTOR_BYTES == 64 ? 8 : Vectors == 3 ? 4 : 6;

template <typename T>
using Product = void (*)(int64_t, const T*, int64_t, int64_t, const T*, int64_t, T*, int64_t, bool, const T*, int64_t);

template <typename T, int Vectors>
static Product<T> product_of_rows(int64_t rows) {
  switch (rows) {
    case 1: return product<T, 1, Vectors>;
    case 2: return product<T, 2, Vectors>;
    case 3: return product<T, 3, Vectors>;
    case 4: return product<T, 4, Vectors>;
  }
  if constexpr (ROWS<Vectors> >= 6) switch (rows) {
      case 5: return product<T, 5, Vectors>;
      case 6: return product<T, 6, Vectors>;
    }
  if constexpr (ROWS<Vectors> >= 8) switch (rows) {
      case 7: return product<T, 7, Vectors>;
      case 8: return product<T, 8, Vectors>;
    }
  return nullptr;
}

// All rows of one panel; blocks of rows differ by at most one, so that none is left with too few accumulators. `ahead` is
// where b will be next, if that is known, or b.
template <typename T, int Vectors>
static void panel_product(int64_t rows, int64_t depth, const T* a, int64_t row, int64_t step, const T* b,
                          int64_t b_step, T* c, int64_t c_step, bool add, const T* ahead) {
  const int64_t blocks = ceil_div(rows, ROWS<Vectors>), size = rows / blocks, extra = rows % blocks;
  const int64_t ahead_step = ahead == b ? 0 : ceil_div(b_step, blocks);
  const Product<T> large = product_of_rows<T, Vectors>(size + 1), small = product_of_rows<T, Vectors>(size);
  for (int64_t n = 0; n < blocks; ++n) {
    const bool is_large = n < extra;
    (is_large ? large : small)(depth, a, row, step, b, b_step, c, c_step, add, ahead, ahead_step);
    ahead += depth * ahead_step;
    a += (size + is_large) * row;
    c += (size + is_large) * c_step;
  }
}

template <typename T>
static void panel_product(int64_t vectors, int64_t rows, int64_t depth, const T* a, int64_t row, int64_t step,
                          const T* b, int64_t b_step, T* c, int64_t c_step, bool add, const T* ahead = nullptr) {
  if (!ahead) ahead = b;
  switch (vectors) {
    case 1: return panel_product<T, 1>(rows, depth, a, row, step, b, b_step, c, c_step, add, ahead);
    case 2: return panel_product<T, 2>(rows, depth, a, row, step, b, b_step, c, c_step, add, ahead);
    default: return panel_product<T, 3>(rows, depth, a, row, step, b, b_step, c, c_step, add, ahead);
  }
}
