// Which instruction set the kernels use.

#include "isa.h"

#include "torch_abi.h"

#include <cstdlib>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace gcnn {
namespace {

#if defined(__x86_64__)
// clang's __builtin_cpu_supports does not know the name.
bool has_f16c() {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

bool has(Isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == Isa::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  if (isa == Isa::avx512) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && has(Isa::avx2);
#endif
  return isa == Isa::portable;
}

Isa choose() {
  const char* variable = std::getenv("GCNN_CPU_ISA");
  const std::string name = variable ? variable : "";
  if (name.empty()) return has(Isa::avx512) ? Isa::avx512 : has(Isa::avx2) ? Isa::avx2 : Isa::portable;
  STD_TORCH_CHECK(name == "avx512" || name == "avx2" || name == "portable",
                  "GCNN_CPU_ISA: expected avx512, avx2 or portable, got '", name, "'");
  const Isa isa = name == "avx512" ? Isa::avx512 : name == "avx2" ? Isa::avx2 : Isa::portable;
  STD_TORCH_CHECK(has(isa), "GCNN_CPU_ISA: this machine has no ", name);
  return isa;
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

namespace {

template <typename T>
const Kernels<T>& kernels_of(Isa isa) {
  const Kernels<T>* table = nullptr;
#if defined(__x86_64__)
  if (isa == Isa::avx512) avx512::get(table);
  if (isa == Isa::avx2) avx2::get(table);
#endif
  if (isa == Isa::portable) portable::get(table);
  return *table;
}

}  // namespace

template <typename T>
const Kernels<T>& kernels() {
  return kernels_of<T>(isa());
}

template <typename T>
const Kernels<T>& kernels(int64_t channels) {
  const bool narrow = isa() == Isa::avx512 && channels * int64_t(sizeof(T)) <= 32;
  return kernels_of<T>(narrow ? Isa::avx2 : isa());
}

template const Kernels<float>& kernels();
template const Kernels<double>& kernels();
template const Kernels<float>& kernels(int64_t);
template const Kernels<double>& kernels(int64_t);

}  // namespace gcnn

namespace {

std::string isa_name() {
  const gcnn::Isa isa = gcnn::isa();
  return isa == gcnn::Isa::avx512 ? "avx512" : isa == gcnn::Isa::avx2 ? "avx2" : "portable";
}

int64_t vector_bytes() { return gcnn::kernels<float>().lanes * static_cast<int64_t>(sizeof(float)); }

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(gcnn_cpu, m) {
  m.def("isa() -> str");
  m.def("vector_bytes() -> int");
}

STABLE_TORCH_LIBRARY_IMPL(gcnn_cpu, CompositeExplicitAutograd, m) {
  m.impl("isa", TORCH_BOX(&isa_name));
  m.impl("vector_bytes", TORCH_BOX(&vector_bytes));
}
