"""The convolutions of the cpu backend against the golden file, the reference backend in float64 and F.conv2d."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS
from gcnn_kernels.backends.cpu import correlations, cost
from gcnn_kernels.groups import point_group

if reason := BACKENDS["cpu"].unavailable():
    pytest.skip(f"the cpu backend is missing: {reason}", allow_module_level=True)

ORDERS = {"p4": 4, "p4m": 8, "c2": 2, "d1": 2, "d2": 4}
ROUNDING = {torch.float64: 2e-14, torch.float32: 2e-6}


@pytest.fixture
def force_form(monkeypatch):
    """Makes the cost model choose the form of gathering, or that of spreading."""

    def force(spread: bool):
        def conv_form(problem, backward):
            if problem.in_slots == 1:
                return ("lift", not backward) if spread else ("stack", backward)
            return ("spread" if spread else "gather"), spread

        def weight_grad_form(problem):
            if problem.in_slots == 1:
                return ("lift", True) if spread else ("stack", False)
            return "gather", spread

        monkeypatch.setattr(cost, "conv_form", conv_form)
        monkeypatch.setattr(cost, "weight_grad_form", weight_grad_form)

    return force


def relative_error(out, expected):
    return ((out.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-300)).item()


def fast_algorithm(x):
    return "fourier" if x.dim() == 5 else "direct"


def convolve(x, w, bias=None, **options):
    return (gk.group_conv2d if x.dim() == 5 else gk.lift_conv2d)(x, w, bias, **options)


def fast(x, w, bias=None, **options):
    return convolve(x, w, bias, algorithm=fast_algorithm(x), backend="cpu", **options)


def random_case(rng, lifting):
    """A random convolution with an output: arguments, shapes and options."""
    while True:
        group = rng.choice(list(ORDERS) if lifting else ["p4", "p4m"])
        k = rng.choice([1, 2, 3, 4, 5])
        stride, dilation = (tuple(rng.choice([1, 1, 2, 3]) for _ in range(2)) for _ in range(2))
        padding = tuple(rng.choice([0, 1, 2]) for _ in range(2))
        size = rng.choice([1, 2, 7, 8, 13, 31]), rng.choice([1, 3, 7, 9, 16, 101])
        span = [(n + 2 * p - d * (k - 1)) for n, p, d in zip(size, padding, dilation, strict=True)]
        if min(span) >= 1:
            break
    batch, cin, cout = (
        rng.choice([1, 2, 3]),
        rng.choice([1, 2, 3, 5, 11, 22, 45, 64]),
        rng.choice([1, 3, 5, 17, 48, 65]),
    )
    slots = () if lifting else (ORDERS[group],)
    options = {"group": group, "stride": stride, "padding": padding, "dilation": dilation}
    return (batch, cin, *slots, *size), (cout, cin, *slots, k, k), options


def assert_parity(x, w, bias, options, dtype):
    x, w, bias = x.to(dtype).requires_grad_(), w.to(dtype).requires_grad_(), bias.to(dtype)
    exact = [t.detach().double().requires_grad_() for t in (x, w)]
    y = fast(x, w, bias, **options)
    expected = convolve(*exact, bias.double(), backend="reference", **options)
    assert y.shape == expected.shape
    grad = torch.randn_like(y)
    grads = torch.autograd.grad(y, (x, w), grad)
    expected_grads = torch.autograd.grad(expected, exact, grad.double())
    for name, out, right in zip(("y", "x", "w"), (y, *grads), (expected, *expected_grads), strict=True):
        error = relative_error(out, right)
        assert error <= ROUNDING[dtype], f"{name}: {error}, {tuple(x.shape)}, {tuple(w.shape)}, {options}"


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("lifting", [False, True])
def test_random_problems_in_both_forms(lifting, dtype, spread, force_form):
    force_form(spread)
    rng = random.Random(f"{lifting} {dtype} {spread}")
    torch.manual_seed(0)
    for _ in range(30):
        x_shape, w_shape, options = random_case(rng, lifting)
        x, w, bias = torch.randn(x_shape), torch.randn(w_shape), torch.randn(w_shape[0])
        if rng.random() < 0.7:
            x = x.contiguous(memory_format=torch.channels_last if lifting else torch.channels_last_3d)
        assert_parity(x, w, bias, options, dtype)


@pytest.fixture
def force_taps(monkeypatch):
    """Makes the cost model choose the symmetry of the taps for every lifting convolution that has it."""
    chosen = cost.conv_form

    def conv_form(problem, backward):
        has_taps = problem.in_slots == 1 and (problem.group.rotations == 4 or problem.kernel == 1)
        return ("taps", False) if has_taps and not backward else chosen(problem, backward)

    monkeypatch.setattr(cost, "conv_form", conv_form)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_lifting_by_the_symmetry_of_the_taps(dtype, force_taps, monkeypatch):
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(torch.nan))
    rng = random.Random(f"taps {dtype}")
    torch.manual_seed(0)
    for _ in range(40):
        x_shape, w_shape, options = random_case(rng, lifting=True)
        assert_parity(torch.randn(x_shape), torch.randn(w_shape), torch.randn(w_shape[0]), options, dtype)


@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5])
def test_tap_transform_is_a_direct_sum_of_irreps(group, k):
    point = point_group(group)
    tables = correlations.tap_transform(point, k, torch.float64)
    basis = tables.basis
    gram = basis @ basis.T
    assert torch.equal(gram, gram.diag().diag())
    assert set(basis.unique().tolist()) <= {-1.0, 0.0, 1.0}
    # <chi, chi> counts the pairs of equal irreps, so the products: dim^2 for every copy of an irrep of real type.
    fixed = torch.from_numpy((point.tap_action(k) == range(k * k)).sum(1)).double()
    copies = [torch.from_numpy(irrep.matrices).diagonal(dim1=1, dim2=2).sum(1) @ fixed for irrep in point.irreps]
    norms = [irrep.dim / irrep.multiplicity * point.order for irrep in point.irreps]
    expected = sum(irrep.dim**2 * float(c / n) for irrep, c, n in zip(point.irreps, copies, norms, strict=True))
    assert len(tables.inputs) == round(expected)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_wide_layers_with_one_and_two_threads(group, count, threads):
    threads(count)
    torch.manual_seed(1)
    for cin, cout, size in ((300, 200, (7, 7)), (45, 210, (8, 9)), (1, 100, (3, 50)), (96, 3, (17, 20))):
        x, w = torch.randn(2, cin, ORDERS[group], *size), torch.randn(cout, cin, ORDERS[group], 3, 3)
        assert_parity(x, w, torch.randn(cout), {"group": group, "padding": 1}, torch.float32)
        x, w = torch.randn(2, cin, *size), torch.randn(cout, cin, 3, 3)
        assert_parity(x, w, torch.randn(cout), {"group": group, "padding": 1}, torch.float32)


def test_reproduces_the_golden_file(golden, force_form):
    names = {name.rsplit("__", 1)[0] for name in golden if name.endswith("__x")}
    assert len(names) == 10
    for spread in (False, True):
        force_form(spread)
        for name in sorted(names):
            group, padding = re.fullmatch(r"(p4m?)_k\d+_pad(\d+)", name).groups()
            for prefix in ("", "lift_"):
                x, w, y = (torch.from_numpy(golden[f"{name}__{prefix}{part}"]) for part in "xwy")
                out = fast(x, w, group=group, padding=int(padding))
                assert relative_error(out, y) < 1e-14, (name, prefix)


@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_products_are_those_of_the_representations(group):
    """A filter in one representation's subspace gives an output in it: ties bilinear.h to PointGroup.fourier."""
    point = point_group(group)
    q = torch.from_numpy(point.fourier)
    x = torch.randn(1, 1, point.order, 4, 4, dtype=torch.float64)
    start = 0
    for irrep in point.irreps:
        rows = range(start, start := start + irrep.dim * irrep.multiplicity)
        for row in rows:
            y = fast(x, q[row].view(1, 1, point.order, 1, 1).contiguous(), group=group)
            spectrum = torch.einsum("qh,bchij->qij", q, y).abs().amax((1, 2))
            outside = [i for i in range(point.order) if i not in rows]
            assert spectrum[outside].max() < 1e-13 * y.abs().sum()
            assert y.abs().max() > 1e-3


@pytest.mark.parametrize("lifting", [False, True])
def test_float32_is_as_accurate_as_the_filter_stack(lifting):
    torch.manual_seed(2)
    for group, cin, cout in (("p4", 128, 64), ("p4m", 90, 45), ("p4m", 11, 3), ("p4", 3, 64)):
        point = point_group(group)
        x = torch.randn(2, cin, 14, 14) if lifting else torch.randn(2, cin, point.order, 14, 14)
        w = torch.randn((cout, cin, 3, 3) if lifting else (cout, cin, point.order, 3, 3))
        stack = gk.expand_filters(w.double(), group)
        planar = x.reshape(2, -1, 14, 14)
        exact = F.conv2d(planar.double(), stack, padding=1)
        naive = relative_error(F.conv2d(planar, stack.float(), padding=1), exact)
        error = relative_error(fast(x, w, group=group, padding=1).flatten(1, 2), exact)
        assert error <= 2 * naive, (group, cin, cout, error, naive)


@pytest.mark.parametrize("lifting", [False, True])
@pytest.mark.parametrize("batch", [0, 1])
def test_smallest_batches(lifting, batch):
    x = torch.randn((batch, 3, 5, 5) if lifting else (batch, 3, 8, 5, 5), requires_grad=True)
    w = torch.randn((2, 3, 3, 3) if lifting else (2, 3, 8, 3, 3), requires_grad=True)
    y = fast(x, w, group="p4m", padding=1)
    assert y.shape == (batch, 2, 8, 5, 5)
    gx, gw = torch.autograd.grad(y.sum(), (x, w))
    assert gx.shape == x.shape
    assert (gw == 0).all() == (batch == 0)


def test_every_output_is_written(monkeypatch, force_form):
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(torch.nan))
    for spread in (False, True):
        force_form(spread)
        for shape, w_shape in (((2, 5, 8, 9, 7), (3, 5, 8, 3, 3)), ((2, 5, 9, 7), (3, 5, 3, 3))):
            x, w = torch.randn(shape, requires_grad=True), torch.randn(w_shape, requires_grad=True)
            y = fast(x, w, group="p4m", stride=2, padding=2)
            assert y.isfinite().all()
            for grad in torch.autograd.grad(y.sum(), (x, w)):
                assert grad.isfinite().all()


@pytest.mark.parametrize("lifting", [False, True])
def test_strided_inputs_and_formats(lifting):
    torch.manual_seed(3)
    slots, last = ((), torch.channels_last) if lifting else ((4,), torch.channels_last_3d)
    w = torch.randn(6, 5, *slots, 3, 3)
    dense = torch.randn(2, 10, *slots, 12, 9)
    inputs = [dense[:, ::2], dense[:, :5, ..., 1:-1], dense[:, 5:].transpose(-1, -2), dense.flip(1)[:, :5]]
    inputs += [x.contiguous(memory_format=last) for x in inputs[:2]] + [dense.contiguous(memory_format=last)[:, 5:]]
    for x in inputs:
        y = fast(x, w, group="p4", padding=1)
        assert relative_error(y, convolve(x.double(), w.double(), group="p4", padding=1, backend="reference")) < 2e-6
        expected = torch.channels_last_3d if x.stride(1) == 1 else torch.contiguous_format
        assert y.is_contiguous(memory_format=expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_in_float32(dtype):
    x, w = torch.randn(2, 20, 8, 9, 9).to(dtype), torch.randn(12, 20, 8, 3, 3).to(dtype)
    x, w = x.requires_grad_(), w.requires_grad_()
    y = fast(x, w, group="p4m", padding=1)
    grads = torch.autograd.grad(y, (x, w), torch.ones_like(y))
    wide = fast(x.float(), w.float(), group="p4m", padding=1)
    assert y.dtype == grads[0].dtype == grads[1].dtype == dtype
    assert torch.equal(y, wide.to(dtype))


@pytest.mark.parametrize("lifting", [False, True])
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_second_derivatives(group, lifting):
    slots = () if lifting else (ORDERS[group],)
    x = torch.randn(1, 2, *slots, 4, 3, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, 2, *slots, 2, 2, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def f(x, w, bias):
        return fast(x, w, bias, group=group, stride=(1, 2), padding=1)

    assert torch.autograd.gradcheck(f, (x, w, bias))
    assert torch.autograd.gradgradcheck(f, (x, w, bias))


def test_repeats_bit_for_bit(threads):
    for count in (1, 2):
        threads(count)
        x, w = torch.randn(3, 11, 8, 20, 20, requires_grad=True), torch.randn(22, 11, 8, 3, 3, requires_grad=True)
        results = []
        for _ in range(3):
            y = fast(x, w, group="p4m", padding=1)
            results.append((y, *torch.autograd.grad(y.square().sum(), (x, w))))
        for again in results[1:]:
            assert all(map(torch.equal, results[0], again))


@pytest.mark.parametrize("group", ["p1", "d2"])
def test_groups_without_a_fast_algorithm_use_the_filter_stack(group):
    order = point_group(group).order
    x, w = torch.randn(1, 2, order, 5, 5), torch.randn(3, 2, order, 3, 3)
    for algorithm, reason in (("fourier", "exists for p4 and p4m, not"), ("direct", "exists for")):
        with pytest.raises(RuntimeError, match=f"the algorithm '{algorithm}' {reason}"):
            gk.group_conv2d(x, w, group=group, algorithm=algorithm, backend="cpu")
    expected = gk.group_conv2d(x.double(), w.double(), group=group, backend="reference")
    assert relative_error(gk.group_conv2d(x, w, group=group, backend="cpu"), expected) < 2e-6


def test_images_and_maps_have_their_own_algorithms():
    x, w = torch.randn(1, 2, 4, 5, 5), torch.randn(3, 2, 4, 3, 3)
    with pytest.raises(
        RuntimeError, match="'direct' exists for lifting and depthwise convolutions, not for dense group ones"
    ):
        gk.group_conv2d(x, w, algorithm="direct", backend="cpu")
    with pytest.raises(RuntimeError, match="'fourier' needs a map on the group; a lifting convolution reads an image"):
        gk.lift_conv2d(x[:, :, 0], w[:, :, 0], algorithm="fourier", backend="cpu")


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, timeout=300
    )


PARITY = """
import os, random, torch
import kernel_cases
import test_cpu_conv as tests
cpu = tests.BACKENDS["cpu"]
assert torch.ops.gcnn_cpu.isa() == os.environ["GCNN_CPU_ISA"]
assert torch.ops.gcnn_cpu.vector_bytes() == {"avx512": 64, "avx2": 32, "portable": 16}[torch.ops.gcnn_cpu.isa()]
for shape in ((3, 5, 4, 6, 7), (2, 33, 8, 9, 5)):
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for memory_format in kernel_cases.FORMATS:
            kernel_cases.check_norm(cpu, "cpu", dtype, shape, memory_format, "per sample", 0.2)
            kernel_cases.check_pool(cpu, "cpu", dtype, shape, memory_format)
rng = random.Random(7)
torch.manual_seed(7)
for n in range(40):
    x_shape, w_shape, options = tests.random_case(rng, lifting=n % 2 == 0)
    x, w, bias = torch.randn(x_shape), torch.randn(w_shape), torch.randn(w_shape[0])
    tests.assert_parity(x, w, bias, options, (torch.float32, torch.float64)[n // 2 % 2])
print("parity")
"""


@pytest.mark.parametrize("isa", ["avx512", "avx2", "portable"])
def test_instruction_sets(isa):
    # glibc fills fresh memory with 0xfe (-1.7e38), so that scratch memory read before it is written shows.
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    done = run_python(PARITY, GCNN_CPU_ISA=isa, PYTHONPATH=path, MALLOC_PERTURB_="1")
    if "this machine has no" in done.stderr:
        pytest.skip(f"this machine has no {isa}")
    assert done.stdout == "parity\n", done.stderr


def test_unknown_instruction_set():
    code = "import torch, gcnn_kernels as gk; gk.group_conv2d(torch.ones(1, 1, 4, 3, 3), torch.ones(1, 1, 4, 1, 1))"
    done = run_python(code, GCNN_CPU_ISA="sse9", PYTHONPATH=os.pathsep.join(sys.path))
    assert "GCNN_CPU_ISA: expected avx512, avx2 or portable, got 'sse9'" in done.stderr
