"""The CUDA kernels' arithmetic, on the CPU: csrc/cuda compiled by the host compiler over cuda_emulator."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from kernel_cases import (
    AFFINES_AND_SLOPES,
    EMPTY_SHAPES,
    FORMATS,
    SHAPES,
    check_filters,
    check_norm,
    check_norm_of_nothing,
    check_pool,
    check_statistics_without_cancellation,
)  # fmt: skip
from torch.utils import cpp_extension

from gcnn_kernels.backends.base import Backend
from gcnn_kernels.backends.compiled import CompiledFilters, CompiledPool
from gcnn_kernels.backends.cuda.norm import CudaNorm
from gcnn_kernels.groups import point_group

TESTS = Path(__file__).resolve().parent
CSRC = TESTS.parents[1] / "csrc"
COMPILER = shutil.which("c++")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler (c++) was found")


@pytest.fixture(scope="module")
def backend(tmp_path_factory):
    folder = tmp_path_factory.mktemp("emulated")
    shutil.copy(CSRC / "cuda/lanes.h", folder)
    shutil.copy(TESTS / "cuda_emulator/launch.cuh", folder)
    units = ["#include <torch/csrc/stable/library.h>\nSTABLE_TORCH_LIBRARY(gcnn_emulated, m) {}\n"]
    for name in ("filter_stack", "norm", "pool"):
        text = (CSRC / f"cuda/{name}.cu").read_text()
        units.append(
            re.sub(r"\bgcnn_cuda\b", "gcnn_emulated", text.replace("(gcnn_cuda, CUDA,", "(gcnn_emulated, CPU,"))
        )
    for i, text in enumerate(units):
        (folder / f"{i}.cpp").write_text(text)
    includes = [f"-I{path}" for path in (folder, CSRC, *cpp_extension.include_paths())]
    libraries = [f"-L{path}" for path in cpp_extension.library_paths()]
    options = ["-std=c++20", "-O1", "-shared", "-fPIC", "-w", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
    command = [
        COMPILER,
        *options,
        *includes,
        *map(str, sorted(folder.glob("*.cpp"))),
        *libraries,
        "-ltorch_cpu",
        "-lc10",
    ]
    done = subprocess.run([*command, "-o", str(folder / "emulated.so")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    torch.ops.load_library(str(folder / "emulated.so"))
    operators = torch.ops.gcnn_emulated
    return Backend(
        "emulated",
        unavailable=lambda: None,
        unsupported=lambda device, dtype: None,
        filters=CompiledFilters(operators),
        norm=CudaNorm(operators),
        pool=CompiledPool(operators),
    )


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_norm(backend, dtype, memory_format):
    torch.manual_seed(0)
    for i, shape in enumerate(SHAPES):
        for affine, slope in AFFINES_AND_SLOPES[i % 4 :: 4]:
            check_norm(backend, "cpu", dtype, shape, memory_format, affine, slope)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_norm_of_nothing(backend, memory_format):
    for shape in EMPTY_SHAPES:
        check_norm_of_nothing(backend, "cpu", shape, memory_format)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
def test_statistics_do_not_cancel(backend, memory_format):
    torch.manual_seed(0)
    check_statistics_without_cancellation(backend, "cpu", torch.float32, memory_format)


@pytest.mark.parametrize("memory_format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16], ids=str)
def test_pool(backend, dtype, memory_format):
    torch.manual_seed(0)
    for shape in (*SHAPES, *EMPTY_SHAPES, (2, 3, 256, 3, 3)):
        check_pool(backend, "cpu", dtype, shape, memory_format)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("name", ["p1", "p4", "p4m"])
def test_filters(backend, name, k):
    group = point_group(name)
    for in_slots in {1, group.order}:
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            check_filters(backend, "cpu", dtype, group, in_slots, k)


def test_repeated_runs_agree_to_the_bit(backend):
    x = torch.randn(3, 7, 8, 9, 10)
    first, second = backend.norm.norm_stats(x), backend.norm.norm_stats(x)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
