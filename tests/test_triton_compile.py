"""Every Triton kernel compiled for three GPU generations, without a GPU, with the tiles that are shipped.

The backend is called on meta tensors while Triton's launcher is replaced by one that records; what it recorded is
compiled ahead of time. No register may be spilled, and products run on tensor cores wherever the arithmetic has them.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import torch

import gcnn_kernels as gk
from gcnn_kernels.backends.base import ConvProblem

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402
from triton.runtime.jit import JITFunction  # noqa: E402

from gcnn_kernels.backends.triton import cost, direct, filters, fourier, norm, pool  # noqa: E402

ARCHITECTURES = {"sm_80": 80, "sm_90": 90, "sm_100": 100}
SHARED_MEMORY = {"sm_80": 99 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}  # sm_80's table serves 8.6 and 8.9 too
TENSOR_CORES = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async", "sm_100": "tcgen05.mma"}
POINTERS = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.int32: "*i32",
    torch.uint8: "*u8",
}
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


@pytest.fixture
def launches(monkeypatch):
    """The launches that would have happened: kernel, arguments, keyword arguments."""
    recorded = []

    def record(kernel, *args, grid, warmup, **kwargs):
        recorded.append((kernel, args, kwargs))

    monkeypatch.setattr(JITFunction, "run", record)
    return recorded


@pytest.fixture
def architecture(request, monkeypatch, tmp_path):
    monkeypatch.setenv("GCNN_TUNE_DIR", str(tmp_path))
    monkeypatch.setattr(cost, "generation", lambda device: request.param)
    cost._choose_tile.cache_clear()
    yield request.param
    cost._choose_tile.cache_clear()


@pytest.fixture
def arithmetic(request, monkeypatch):
    precision = "tf32" if request.param == "tf32" else "ieee"
    for module in (cost, direct, fourier):
        monkeypatch.setattr(module, "dot_precision", lambda dtype: precision)
    return {"bf16": torch.bfloat16, "tf32": torch.float32, "ieee": torch.float32, "fp64": torch.float64}[request.param]


def source(kernel, args, kwargs):
    """The program that the launcher would compile: numbers equal to 1 and divisible by 16 are known as such."""
    given = dict(zip(kernel.arg_names, args, strict=False)) | {k: v for k, v in kwargs.items() if k in kernel.arg_names}
    signature, constants, attributes = {}, {}, {}
    for position, (name, parameter) in enumerate(zip(kernel.arg_names, kernel.params, strict=True)):
        value = given[name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name], attributes[(position,)] = POINTERS[value.dtype], [["tt.divisibility", 16]]
        elif isinstance(value, int):
            signature[name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(position,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = "fp32"
    return ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)


def check(recorded, architecture, tmp_path, tensor_cores):
    """Compiles each recorded launch; ``tensor_cores``: the instruction that convolutions must contain, or None."""
    target = GPUTarget("cuda", ARCHITECTURES[architecture], 32)
    assert recorded
    for kernel, args, kwargs in recorded:
        options = {name: kwargs[name] for name in ("num_warps", "num_stages", "enable_fp_fusion") if name in kwargs}
        compiled = triton.compile(source(kernel, args, kwargs), target=target, options=options)
        cubin = tmp_path / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        usage = subprocess.run([CUOBJDUMP, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
        registers, stack, local = (int(re.search(rf"{what}:(\d+)", usage)[1]) for what in ("REG", "STACK", "LOCAL"))
        name = kernel.__name__
        assert (stack, local) == (0, 0), f"{name} spills: {usage}"
        assert registers <= 255
        assert compiled.metadata.shared <= SHARED_MEMORY[architecture], f"{name}: {compiled.metadata.shared} bytes"
        if tensor_cores and name in ("conv_kernel", "weight_grad_kernel"):
            assert tensor_cores in compiled.asm["ptx"], f"{name} does not use {tensor_cores}"


def problem(op, group, in_channels, out_channels, dtype, lifting=False, k=3):
    point = gk.point_group(group)
    return ConvProblem(
        op, point, 32, in_channels, out_channels, 1 if lifting else point.order, k, (32, 32), (32, 32),
        (1, 1), (k // 2, k // 2), (1, 1), dtype, torch.device("meta"),
    )  # fmt: skip


def record_conv(layer, algorithm):
    kernels = {"direct": direct, "fourier": fourier}[algorithm]
    tile = cost.choose_tile(layer, algorithm)

    def empty(shape):
        last = torch.channels_last_3d if shape in (layer.in_shape, layer.out_shape) else torch.contiguous_format
        return torch.empty(shape, dtype=layer.dtype, device="meta", memory_format=last)

    x, weight, y = empty(layer.in_shape), empty(layer.weight_shape), empty(layer.out_shape)
    if layer.op == "conv":
        kernels.conv(layer, tile, x, weight, torch.empty(layer.out_channels, dtype=layer.dtype, device="meta"))
    elif layer.op == "conv_input_grad":
        kernels.conv_input_grad(layer, tile, y, weight)
    else:
        kernels.conv_weight_grad(layer, tile, y, x)


CONVOLUTIONS = [  # architecture, arithmetic, algorithm, operator, group
    ("sm_80", "bf16", "fourier", "conv", "p4m"),
    ("sm_80", "bf16", "fourier", "conv_weight_grad", "p4m"),
    ("sm_80", "tf32", "direct", "conv", "p4m"),
    ("sm_90", "bf16", "fourier", "conv", "p4m"),
    ("sm_90", "bf16", "fourier", "conv", "p4"),
    ("sm_90", "bf16", "fourier", "conv_weight_grad", "p4m"),
    ("sm_90", "bf16", "fourier", "conv_weight_grad", "p4"),
    ("sm_90", "tf32", "fourier", "conv", "p4m"),
    ("sm_90", "tf32", "fourier", "conv_weight_grad", "p4m"),
    ("sm_90", "bf16", "direct", "conv", "p4m"),
    ("sm_90", "bf16", "direct", "conv_input_grad", "p4"),
    ("sm_90", "bf16", "direct", "conv_weight_grad", "p4m"),
    ("sm_90", "tf32", "direct", "conv", "p4m"),
    ("sm_90", "ieee", "fourier", "conv", "p4m"),
    ("sm_90", "fp64", "fourier", "conv", "p4m"),
    ("sm_90", "ieee", "direct", "conv", "p4m"),
    ("sm_100", "bf16", "fourier", "conv", "p4m"),
    ("sm_100", "bf16", "fourier", "conv_weight_grad", "p4m"),
    ("sm_100", "bf16", "direct", "conv", "p4m"),
]


@pytest.mark.parametrize(
    ("architecture", "arithmetic", "algorithm", "op", "group"), CONVOLUTIONS, indirect=["architecture", "arithmetic"]
)
def test_convolutions(architecture, arithmetic, algorithm, op, group, launches, tmp_path, request):
    record_conv(problem(op, group, 64, 64, arithmetic), algorithm)
    on_tensor_cores = arithmetic == torch.bfloat16 or "tf32" in request.node.callspec.id
    check(launches, architecture, tmp_path, TENSOR_CORES[architecture] if on_tensor_cores else None)


@pytest.mark.parametrize("architecture", ["sm_90"], indirect=True)
@pytest.mark.parametrize("arithmetic", ["bf16"], indirect=True)
@pytest.mark.parametrize("op", ["conv", "conv_input_grad", "conv_weight_grad"])
@pytest.mark.parametrize(("lifting", "channels"), [(True, (3, 11)), (False, (22, 11))])
def test_narrow_layers(op, lifting, channels, arithmetic, architecture, launches, tmp_path):
    """On whatever tensor instruction the compiler picks for small tiles."""
    record_conv(problem(op, "p4m", *channels, arithmetic, lifting), "direct")
    check(launches, architecture, tmp_path, "mma")


@pytest.mark.parametrize(
    ("architecture", "channels"), [("sm_80", 181), ("sm_90", 181), ("sm_90", 64)], indirect=["architecture"]
)
def test_norm_pool_and_filters(channels, architecture, launches, tmp_path):
    x = torch.empty(32, channels, 8, 32, 32, dtype=torch.bfloat16, device="meta").to(
        memory_format=torch.channels_last_3d
    )
    vector = torch.empty(channels, device="meta")
    per_sample = torch.empty(32, channels, device="meta")
    norm.norm_stats(x)
    norm.norm_apply(x, vector, vector, per_sample, vector, 0.0)
    norm.norm_backward_sums(x, x, vector, vector, per_sample, vector, 0.0)
    norm.norm_backward_input(x, x, vector, vector, per_sample, vector, 0.0, vector, vector)
    value, index = pool.group_max(x)
    pool.group_max_scatter(value, index, 8)
    pool.group_max_gather(x, index)
    point = gk.point_group("p4m")
    filters.reduce_filters(filters.expand_filters(torch.empty(8, 8, 8, 3, 3, device="meta"), point), point, 8)
    check(launches, architecture, tmp_path, None)
