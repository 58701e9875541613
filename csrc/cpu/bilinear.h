// Group correlations over C4 and D4 by few products. Included like product.h.
//
// y(h) = sum_g w(h^-1 g) z(g) is bilinear in (w, z). In the basis of the irreducible representations it falls apart: with
// Z_ij = sum_g rho_ij(g) z(g) and W alike, each representation rho gives Y = Z W^T, a product of dim x dim matrices, and
// y(h) = sum over rho of dim / |H| * sum_ij rho_ij(h) Y_ij. So y = C((B w) * (A z)) with one entry of A z, B w per
// scalar product, `rank` of them:
//
//   C4  two real characters, and one complex number times another by 3 real products:               rank 5 (16 directly)
//   D4  four real characters, and one 2 x 2 matrix times another by Strassen's 7 products:          rank 11 (64 directly)
//
// A (input) and C (output) are below, made of additions only. B is a matrix from gcnn_kernels/backends/cpu/correlations.py,
// derived there from PointGroup.fourier, and contains the scale. The gradient with respect to w needs C's adjoint,
// w' = B^T((A z) * (C^T y')); the one with respect to z is the same correlation with the filter w(u^-1).
//
// Lifting convolutions need no basis, and are of rank 1. All slots of the output share the products, y(h) = w z (Copy), and
// the gradient sums over slots (Sum). Where the image has few channels, sums cost more than products, and the slots are
// taken as further channels of the output (Stack) or, for the gradient, of the input (Unstack).

struct C4 {
  static constexpr int in_slots = 4, out_slots = 4, rank = 5, sums = 4;
  static constexpr bool stacked = false;

  // The characters A, B, then the entries of E's first column.
  template <typename V>
  GCNN_INLINE void analyse(const V (&z)[4], V (&f)[4]) {
    const V even = z[0] + z[2], odd = z[1] + z[3];
    f[0] = even + odd;
    f[1] = even - odd;
    f[2] = z[0] - z[2];
    f[3] = z[1] - z[3];
  }

  // The adjoint.
  template <typename V>
  GCNN_INLINE void synthesise(const V (&f)[4], V (&y)[4]) {
    const V even = f[0] + f[1], odd = f[0] - f[1];
    y[0] = even + f[2];
    y[1] = odd + f[3];
    y[2] = even - f[2];
    y[3] = odd - f[3];
  }

  // y += the product of entries of z and of w: a character's each, and one complex number times another.
  template <typename V>
  GCNN_INLINE void multiply(const V (&f)[4], const V (&w)[4], V (&y)[4]) {
    y[0] += f[0] * w[0];
    y[1] += f[1] * w[1];
    y[2] += f[2] * w[2];
    y[3] += f[3] * w[2];
    y[2] += f[3] * w[3];
    y[3] -= f[2] * w[3];
  }

  // w += the adjoint with respect to w.
  template <typename V>
  GCNN_INLINE void multiply_adjoint(const V (&f)[4], const V (&y)[4], V (&w)[4]) {
    w[0] += f[0] * y[0];
    w[1] += f[1] * y[1];
    w[2] += f[2] * y[2];
    w[3] += f[3] * y[2];
    w[2] += f[3] * y[3];
    w[3] -= f[2] * y[3];
  }

  template <typename V>
  GCNN_INLINE void input(const V (&z)[4], V (&a)[5]) {
    V f[4];
    analyse(z, f);
    a[0] = f[0];
    a[1] = f[1];
    a[2] = f[2] + f[3];
    a[3] = f[3];
    a[4] = f[2];
  }

  template <typename V>
  GCNN_INLINE void output(const V (&p)[5], V (&y)[4]) {
    synthesise({p[0], p[1], p[2] - p[3], p[2] - p[4]}, y);
  }

  template <typename V>
  GCNN_INLINE void output_adjoint(const V (&y)[4], V (&p)[5]) {
    V f[4];
    analyse(y, f);
    p[0] = f[0];
    p[1] = f[1];
    p[2] = f[2] + f[3];
    p[3] = -f[2];
    p[4] = -f[3];
  }
};

struct D4 {
  static constexpr int in_slots = 8, out_slots = 8, rank = 11, sums = 8;
  static constexpr bool stacked = false;

  // The four characters A1, A2, B1, B2, then the entries of E: e00, e01, e10, e11.
  template <typename V>
  GCNN_INLINE void analyse(const V (&z)[8], V (&f)[8]) {
    const V a0 = z[0] + z[4], a1 = z[1] + z[5], a2 = z[2] + z[6], a3 = z[3] + z[7];
    const V b0 = z[0] - z[4], b1 = z[1] - z[5], b2 = z[2] - z[6], b3 = z[3] - z[7];
    const V a02 = a0 + a2, a13 = a1 + a3, b02 = b0 + b2, b13 = b1 + b3;
    f[0] = a02 + a13;
    f[1] = b02 + b13;
    f[2] = a02 - a13;
    f[3] = b02 - b13;
    f[4] = b0 - b2;
    f[5] = b3 - b1;
    f[6] = a1 - a3;
    f[7] = a0 - a2;
  }

  // The adjoint.
  template <typename V>
  GCNN_INLINE void synthesise(const V (&f)[8], V (&y)[8]) {
    const V a = f[0] + f[1], b = f[2] + f[3], a_m = f[0] - f[1], b_m = f[2] - f[3];
    const V even = a + b, odd = a - b, even_m = a_m + b_m, odd_m = a_m - b_m;
    const V cos = f[7] + f[4], sin = f[6] - f[5], cos_m = f[7] - f[4], sin_m = f[6] + f[5];
    y[0] = even + cos;
    y[1] = odd + sin;
    y[2] = even - cos;
    y[3] = odd - sin;
    y[4] = even_m + cos_m;
    y[5] = odd_m + sin_m;
    y[6] = even_m - cos_m;
    y[7] = odd_m - sin_m;
  }

  // y += the product of entries of z and of w: a character's each, and a 2 x 2 matrix, row by row, times another.
  template <typename V>
  GCNN_INLINE void multiply(const V (&f)[8], const V (&w)[8], V (&y)[8]) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) y[k] += f[k] * w[k];
#pragma GCC unroll 2
    for (int k = 0; k < 2; ++k)
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) y[4 + 2 * i + j] += f[4 + 2 * i + k] * w[4 + 2 * k + j];
  }

  // w += the adjoint with respect to w.
  template <typename V>
  GCNN_INLINE void multiply_adjoint(const V (&f)[8], const V (&y)[8], V (&w)[8]) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) w[k] += f[k] * y[k];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i)
#pragma GCC unroll 2
      for (int k = 0; k < 2; ++k)
#pragma GCC unroll 2
        for (int j = 0; j < 2; ++j) w[4 + 2 * k + j] += f[4 + 2 * i + k] * y[4 + 2 * i + j];
  }

  template <typename V>
  GCNN_INLINE void input(const V (&z)[8], V (&a)[11]) {
    V f[8];
    analyse(z, f);
    a[0] = f[0];
    a[1] = f[1];
    a[2] = f[2];
    a[3] = f[3];
    a[4] = f[4] + f[7];
    a[5] = f[6] + f[7];
    a[6] = f[4];
    a[7] = f[7];
    a[8] = f[4] + f[5];
    a[9] = f[6] - f[4];
    a[10] = f[5] - f[7];
  }

  template <typename V>
  GCNN_INLINE void output(const V (&p)[11], V (&y)[8]) {
    const V e00 = p[4] + p[7] - p[8] + p[10], e01 = p[6] + p[8], e10 = p[5] + p[7], e11 = p[4] - p[5] + p[6] + p[9];
    synthesise({p[0], p[1], p[2], p[3], e00, e01, e10, e11}, y);
  }

  template <typename V>
  GCNN_INLINE void output_adjoint(const V (&y)[8], V (&p)[11]) {
    V f[8];
    analyse(y, f);
    p[0] = f[0];
    p[1] = f[1];
    p[2] = f[2];
    p[3] = f[3];
    p[4] = f[4] + f[7];
    p[5] = f[6] - f[7];
    p[6] = f[5] + f[7];
    p[7] = f[4] + f[6];
    p[8] = f[5] - f[4];
    p[9] = f[7];
    p[10] = f[4];
  }
};

template <int N>
struct Copy {
  static constexpr int in_slots = 1, out_slots = N, rank = 1, sums = 1;
  static constexpr bool stacked = false;

  template <typename V>
  GCNN_INLINE void synthesise(const V (&f)[1], V (&y)[N]) {
#pragma GCC unroll 8
    for (int h = 0; h < N; ++h) y[h] = f[0];
  }

  template <typename V>
  GCNN_INLINE void analyse(const V (&z)[N], V (&f)[1]) {
    f[0] = z[0];
#pragma GCC unroll 8
    for (int h = 1; h < N; ++h) f[0] += z[h];
  }

  template <typename V>
  GCNN_INLINE void input(const V (&z)[1], V (&a)[1]) {
    a[0] = z[0];
  }
};

template <int N>
struct Sum {
  static constexpr int in_slots = N, out_slots = 1, rank = 1;
  static constexpr bool stacked = false;

  template <typename V>
  GCNN_INLINE void input(const V (&z)[N], V (&a)[1]) {
    a[0] = z[0];
#pragma GCC unroll 8
    for (int g = 1; g < N; ++g) a[0] += z[g];
  }

  template <typename V>
  GCNN_INLINE void output(const V (&p)[1], V (&y)[1]) {
    y[0] = p[0];
  }

  template <typename V>
  GCNN_INLINE void output_adjoint(const V (&y)[1], V (&p)[1]) {
    p[0] = y[0];
  }
};

template <int N>
struct Stack : Copy<N> {
  static constexpr bool stacked = true;
};

template <int N>
struct Unstack {
  static constexpr int in_slots = N, out_slots = 1, rank = 1;
  static constexpr bool stacked = true;
};
