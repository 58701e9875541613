"""csrc/cpu on another architecture: compiled for aarch64 and run by QEMU, against the reference backend in float64.

The operators are the binary's own; aarch64/torch_abi.h stands in for torch, so that none for aarch64 is needed.
"""

from __future__ import annotations

import ast
import re
import shutil
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
import torch
from kernel_cases import (
    FORMATS,
    TOLERANCES,
    assert_close,
    check_filters,
    check_norm,
    check_pool,
    check_spatial_pool,
    poisoned,
)
from torch.utils import cpp_extension

from gcnn_kernels.backends.base import Backend
from gcnn_kernels.backends.compiled import CompiledFilters, CompiledPool
from gcnn_kernels.backends.cpu import cost, linear
from gcnn_kernels.backends.cpu.conv import CpuConv
from gcnn_kernels.backends.cpu.norm import CpuNorm
from gcnn_kernels.backends.cpu.spatial_pool import CpuSpatialPool
from gcnn_kernels.backends.problem import ConvProblem
from gcnn_kernels.backends.reference import conv as reference
from gcnn_kernels.backends.reference import linear as irreps
from gcnn_kernels.groups import point_group

HERE = Path(__file__).resolve().parent
CSRC = HERE.parents[1] / "csrc"
COMPILER = shutil.which("aarch64-linux-gnu-g++")
EMULATOR = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
CPU = torch.device("cpu")
SCALAR_TYPES = {
    torch.uint8: 0, torch.int32: 3, torch.int64: 4, torch.float16: 5, torch.float32: 6, torch.float64: 7,
    torch.bfloat16: 15,
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(COMPILER is None, reason="no aarch64-linux-gnu-g++ (Debian: g++-aarch64-linux-gnu)"),
    pytest.mark.skipif(EMULATOR is None, reason="no qemu-aarch64 (Debian: qemu-user)"),
]


def compile_flags() -> list[str]:
    """Those that setup.py compiles the CPU kernels with."""
    setup = (CSRC.parent / "setup.py").read_text("utf-8")
    flags = ast.literal_eval(re.search(r"^CPU_FLAGS = (\[.*\])$", setup, re.MULTILINE)[1])
    return [*flags, "-std=c++20", '-DGCNN_SOURCE_HASH=""', "-DTORCH_TARGET_VERSION=0x020a000000000000"]


class Emulated:
    """Stands for ``torch.ops.gcnn_cpu``: every operator is a run of the program in the emulator."""

    def __init__(self, program: Path):
        self.program = program
        self.called: set[tuple] = set()

    def run(self, name: str, data: bytes = b"") -> bytes:
        done = subprocess.run([EMULATOR, str(self.program), name], input=data, capture_output=True, check=False)
        assert done.returncode == 0, f"{name}: {done.stderr.decode()}"
        return done.stdout

    def __getattr__(self, name):
        def call(*arguments):
            if not arguments:  # asks for a text or a number
                text = self.run(name).decode()
                return int(text) if text.isdigit() else text
            self.called.add((name, *(a for a in arguments if isinstance(a, bool))))
            out = self.run(name, b"".join(map(_encoded, arguments)))
            for tensor in (a for a in arguments if isinstance(a, torch.Tensor)):
                memory = _memory(tensor)
                memory.copy_(torch.frombuffer(bytearray(out[: memory.numel()]), dtype=torch.uint8))
                out = out[memory.numel() :]
            assert not out

        return call


def _memory(tensor: torch.Tensor) -> torch.Tensor:
    """Its bytes, in the order in which they lie."""
    flat = tensor.as_strided((tensor.numel(),), (1,))
    return flat.view(torch.uint8)


def _encoded(argument) -> bytes:
    """As ``Call`` in torch_abi.h reads it."""
    if argument is None:
        return struct.pack("q", 0)
    if isinstance(argument, torch.Tensor):
        memory = _memory(argument).numpy().tobytes()
        head = (1, SCALAR_TYPES[argument.dtype], argument.dim(), *argument.shape, len(memory))
        return struct.pack(f"{len(head)}q", *head) + memory
    return struct.pack("qd", 3, argument) if isinstance(argument, float) else struct.pack("qq", 2, argument)


@pytest.fixture(scope="module")
def emulated(tmp_path_factory) -> Emulated:
    folder = tmp_path_factory.mktemp("aarch64")
    sources = [path for path in sorted((CSRC / "cpu").glob("*.cpp")) if "avx" not in path.name]
    includes = [f"-I{path}" for path in (HERE / "aarch64", CSRC, *cpp_extension.include_paths())]

    def build(source: Path) -> None:
        command = [COMPILER, *compile_flags(), *includes, "-c", source, "-o", folder / f"{source.stem}.o"]
        subprocess.run(command, check=True)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(build, [*sources, HERE / "aarch64" / "run.cpp"]))
    subprocess.run([COMPILER, "-static", *folder.glob("*.o"), "-o", folder / "run"], check=True)
    return Emulated(folder / "run")


@pytest.fixture
def backend(emulated, monkeypatch) -> Backend:
    monkeypatch.setattr(torch.ops, "gcnn_cpu", emulated)
    filters = CompiledFilters(emulated)
    return Backend(
        "cpu", lambda: None, lambda device, dtype: None,
        conv=CpuConv(filters), filters=filters, norm=CpuNorm(emulated), pool=CompiledPool(emulated),
        spatial_pool=CpuSpatialPool(emulated),
    )  # fmt: skip


def test_instruction_set(emulated):
    assert (emulated.isa(), emulated.vector_bytes()) == ("portable", 16)
    machine = subprocess.run(["file", "-L", emulated.program], capture_output=True, text=True, check=False)
    assert machine.returncode or "aarch64" in machine.stdout


# group, lifting, channels in and out, groups
CONVOLUTIONS = (
    ("p4", False, 6, 9, 1), ("p4m", False, 5, 7, 1), ("p4m", False, 33, 4, 1), ("p4", True, 3, 16, 1),
    ("p4m", True, 1, 5, 1), ("p4", True, 17, 6, 1), ("p4", False, 6, 6, 6), ("p4m", False, 5, 5, 5),
)  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("group", "lifting", "cin", "cout", "groups"), CONVOLUTIONS)
def test_convolution_and_its_gradients(backend, dtype, group, lifting, cin, cout, groups):
    torch.manual_seed(0)
    point = point_group(group)
    slots = 1 if lifting else point.order
    for stride, padding, memory_format in (((1, 1), (1, 1), FORMATS[1]), ((2, 1), (0, 2), FORMATS[0])):
        x_shape, weight_shape = (2, cin, slots, 9, 8), (cout, cin // groups, slots, 3, 3)
        options = {"group": point, "stride": stride, "padding": padding, "groups": groups, "device": CPU}
        x = torch.randn(x_shape, dtype=dtype).contiguous(memory_format=memory_format)
        weight, bias = torch.randn(weight_shape, dtype=dtype), torch.randn(cout, dtype=dtype)

        def problem(op, dtype, shapes=(x_shape, weight_shape), options=options):
            return ConvProblem.of(op, *shapes, dtype=dtype, **options)

        grad = torch.randn(problem("conv", dtype).out_shape, dtype=dtype).contiguous(memory_format=memory_format)
        algorithms = ("direct",) if lifting else ("fourier", "direct") if groups > 1 else ("fourier",)
        operators = {"conv": (x, weight, bias), "conv_input_grad": (grad, weight), "conv_weight_grad": (grad, x)}
        for (op, inputs), algorithm in product(operators.items(), algorithms):
            with poisoned():
                found = getattr(backend.conv.algorithms[algorithm], op)(problem(op, dtype), *inputs)
            exact = getattr(reference.algorithms["expand"], op)
            expected = exact(problem(op, torch.float64), *(t.double() for t in inputs))
            assert found.dtype == dtype
            assert_close(found, expected, TOLERANCES[dtype], f"{op}, {algorithm}, stride {stride}")


@pytest.mark.parametrize("form", ["gather", "spread", "lift", "stack"])
def test_every_form(backend, emulated, monkeypatch, form):
    """Whatever the cost model would choose for these channels."""
    spread = form in ("spread", "lift")
    by_direction = {"lift": lambda backward: not backward, "stack": lambda backward: backward}
    spreads = by_direction.get(form, lambda backward: spread)
    weight_grad_form = "gather" if form == "spread" else form
    monkeypatch.setattr(cost, "conv_form", lambda problem, backward: (form, spreads(backward)))
    monkeypatch.setattr(cost, "weight_grad_form", lambda problem: (weight_grad_form, spread))
    emulated.called.clear()
    test_convolution_and_its_gradients(backend, torch.float32, "p4m", form in by_direction, 6, 8, 1)
    assert ("conv", False, spread, form == "stack") in emulated.called


@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_linear(backend, group):
    torch.manual_seed(0)
    point = point_group(group)
    x, grad, weight = (torch.randn(*shape, point.order) for shape in ((50, 7), (50, 30), (30, 7)))
    for name, arguments, options in (
        ("linear", (x, weight, torch.randn(30), point), {}),
        ("linear", (grad, weight, None, point), {"adjoint": True}),
        ("linear_weight_grad", (grad, x, point), {}),
    ):
        exact = [t.double() if isinstance(t, torch.Tensor) else t for t in arguments]
        found, expected = getattr(linear, name)(*arguments, **options), getattr(irreps, name)(*exact, **options)
        assert_close(found, expected, TOLERANCES[torch.float32], name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_norm_and_pools(backend, dtype, memory_format):
    torch.manual_seed(0)
    for shape, affine, slope in (((2, 3, 4, 5, 5), "none", 1.0), ((3, 37, 8, 9, 8), "per sample", 0.2)):
        check_norm(backend, "cpu", dtype, shape, memory_format, affine, slope)
        check_pool(backend, "cpu", dtype, shape, memory_format)
        check_spatial_pool(backend, "cpu", dtype, shape, memory_format)


@pytest.mark.parametrize(("group", "in_slots"), [("p4", 1), ("p4", 4), ("p4m", 8)])
def test_filters(backend, group, in_slots):
    check_filters(backend, "cpu", torch.float32, point_group(group), in_slots, 3)
