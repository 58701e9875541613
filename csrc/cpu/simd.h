// Plain loops, compiled several times and run for the instruction set of isa.h.
#pragma once

#include "isa.h"
#include "torch_abi.h"

#if defined(__x86_64__) && defined(__GNUC__)

// `flatten` inlines the whole body, so that its loops are compiled for the function's own target.
template <typename Body>
__attribute__((target("avx2,fma,f16c"), flatten)) void run_avx2(const Body& body, int64_t begin, int64_t end) {
  body(begin, end);
}

template <typename Body>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"), flatten)) void run_avx512(
    const Body& body, int64_t begin, int64_t end) {
  body(begin, end);
}

template <gcnn::Isa Most, typename Body>
auto compiled(const Body&) {
  void (*run)(const Body&, int64_t, int64_t) = [](const Body& body, int64_t begin, int64_t end) { body(begin, end); };
  const gcnn::Isa isa = std::min(gcnn::isa(), Most);
  if (isa == gcnn::Isa::avx2) run = run_avx2<Body>;
  if constexpr (Most == gcnn::Isa::avx512)
    if (isa == gcnn::Isa::avx512) run = run_avx512<Body>;
  return run;
}

#else

template <gcnn::Isa Most, typename Body>
auto compiled(const Body&) {
  return [](const Body& body, int64_t begin, int64_t end) { body(begin, end); };
}

#endif

// body(begin, end) over [0, count) on torch's threads, at least `grain` of them in one call, by `Most` at most.
template <gcnn::Isa Most = gcnn::Isa::avx512, typename Body>
void parallel_simd(int64_t count, int64_t grain, const Body& body) {
  const auto run = compiled<Most>(body);
  torch::stable::parallel_for(0, count, std::max<int64_t>(grain, 1), [&](int64_t begin, int64_t end) {
    run(body, begin, end);
  });
}
