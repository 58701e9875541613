"""Every Triton kernel compiled for three GPU generations, without a GPU, with the tiles that are shipped.

The programs are those of benches/ahead_of_time.py. Products run on tensor cores wherever the arithmetic has them, and
no more than SPILLED bytes of a thread's registers are spilled.

By default each kernel is compiled with the largest tile that the networks' layers take in bfloat16, for sm_90; the slow
tests are of the other arithmetics and generations. ``pytest --all-tiles -m ""`` compiles every program that the layers
can select, which takes a quarter of an hour. Run that after a change of a kernel or a table.
"""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch

import gcnn_kernels as gk
from benches import layers
from benches.cases import at_paper_batch, conv_cases
from gcnn_kernels.backends import ConvProblem
from gcnn_kernels.backends.base import Affine

triton = pytest.importorskip("triton")

from benches.ahead_of_time import compiled, generation, recorded, run_conv  # noqa: E402
from gcnn_kernels.backends.triton import cost, direct, filters, fourier, norm, pool  # noqa: E402

SHARED_MEMORY = {"sm_80": 99 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024}  # sm_80's table serves 8.6 and 8.9 too
TENSOR_CORES = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async", "sm_100": "tcgen05.mma"}
REGISTERS = 65536  # of a multiprocessor
SPILLED = 64  # bytes of a thread, with any Triton: register allocation differs a little from one to the next
SPILLED_FLOAT64 = 1024  # Triton 3.6 and 3.7 hold its operands several times, whatever the tile; it is not for speed
OPERATORS = ("conv", "conv_input_grad", "conv_weight_grad")
ARITHMETIC = {  # dtype, torch's setting for float32 convolutions
    "bf16": (torch.bfloat16, "ieee"),
    "tf32": (torch.float32, "tf32"),
    "ieee": (torch.float32, "ieee"),
    "fp64": (torch.float64, "ieee"),
}


def slow(parameter):
    return pytest.param(parameter, marks=pytest.mark.slow)


@pytest.fixture(params=[slow("sm_80"), "sm_90", slow("sm_100")])
def architecture(request, monkeypatch, tmp_path):
    monkeypatch.setenv("GCNN_TUNE_DIR", str(tmp_path))
    with generation(request.param):
        yield request.param


@pytest.fixture
def arithmetic(request, monkeypatch):
    for module in (cost, direct, fourier):
        monkeypatch.setattr(module, "dot_precision", lambda dtype: ARITHMETIC[request.param][1])
    return request.param


def check(programs, architecture):
    """Compiles the programs and tells the faults of all of them at once."""
    programs = list({program.key: program for program in programs}.values())
    results = compiled(programs, architecture)
    found = [
        f"{program.name}, {program.options}: {fault}"
        for program, result in zip(programs, results, strict=True)
        for fault in faults(program, result, architecture)
    ]
    assert not found, "\n".join(found)
    return results


def faults(program, result, architecture):
    registers, spilled = result.usage
    float64 = "*fp64" in program.source.signature.values()
    allowed = SPILLED_FLOAT64 if float64 else SPILLED
    if float64 and "fp32" in program.source.signature.values():
        yield "takes a number as float32"
    if spilled > allowed:
        yield f"spills {spilled} bytes"
    if registers * 32 * result.warps > REGISTERS:
        yield f"{registers} registers in each of {32 * result.warps} threads"
    if result.shared > SHARED_MEMORY[architecture]:
        yield f"{result.shared} bytes of shared memory"
    if program.uses_tensor_cores and "mma" not in result.ptx:
        yield "no tensor cores"


def problem(op, group, in_channels, out_channels, dtype, lifting=False, k=3, batch=32, size=32):
    point = gk.point_group(group)
    slots = 1 if lifting else point.order
    return ConvProblem.of(
        op, (batch, in_channels, slots, size, size), (out_channels, in_channels, slots, k, k),
        group=point, padding=(k // 2, k // 2), dtype=dtype, device=torch.device("meta"),
    )  # fmt: skip


def largest(layers_and_algorithms):
    """Of each kernel and group the layer with the largest tile, and the widest of those."""
    found = {}
    for layer, algorithm in layers_and_algorithms:
        tile = cost.choose_tile(layer, algorithm)
        size = (tile.rows * tile.columns * tile.slots * tile.depth, layer.in_channels * layer.out_channels)
        key = algorithm, layer.op == "conv_weight_grad", layer.group.name
        if key not in found or size > found[key][0]:
            found[key] = size, (layer, algorithm)
    return [chosen for _, chosen in found.values()]


@pytest.mark.parametrize("arithmetic", ["bf16", slow("tf32"), slow("ieee")], indirect=True)
def test_layers_of_the_networks(arithmetic, architecture, pytestconfig):
    """The tiles that the layers of Dey et al. (2021) take, each with the algorithm chosen for it."""
    dtype = ARITHMETIC[arithmetic][0]
    cases = [layers.problem(at_paper_batch(case), op, "meta", dtype) for case in conv_cases() for op in OPERATORS]
    chosen = [(layer, algorithm) for layer in cases if (algorithm := cost.choose_algorithm(layer)) != "expand"]
    if not pytestconfig.getoption("all_tiles"):
        chosen = largest(chosen)
    check(convolutions(chosen), architecture)


@pytest.mark.parametrize("arithmetic", ["bf16", "fp64"], indirect=True)
@pytest.mark.parametrize("architecture", ["sm_90"], indirect=True)
def test_other_layers(arithmetic, architecture):
    """Channels in whole vectors, narrow layers, and float64."""
    dtype = ARITHMETIC[arithmetic][0]
    chosen = [(problem(op, "p4m", 64, 64, dtype), "fourier") for op in OPERATORS]
    chosen += [(problem(op, "p4m", 3, 11, dtype, lifting=True), "direct") for op in OPERATORS]
    check(convolutions(chosen), architecture)


@pytest.mark.parametrize("arithmetic", ["bf16", slow("ieee"), slow("fp64")], indirect=True)
def test_staged_kernels(arithmetic, architecture):
    """Even and odd channels; maps and filters."""
    dtype, groups = ARITHMETIC[arithmetic][0], ("p4", "p4m") if arithmetic == "bf16" else ("p4m",)
    chosen = [(problem(op, group, 181, 90, dtype), "staged") for op in OPERATORS for group in groups]
    check(convolutions(chosen), architecture)


@pytest.mark.parametrize("arithmetic", ["bf16", slow("fp64")], indirect=True)
@pytest.mark.parametrize("architecture", ["sm_90"], indirect=True)
@pytest.mark.parametrize(("activation", "statistics"), [("leaky_relu", False), (None, True)])
def test_what_is_folded_into_the_convolutions(activation, statistics, arithmetic, architecture):
    """It leaves the loop as it is: no more registers than a block has, and no spill."""
    dtype = ARITHMETIC[arithmetic][0]
    chosen = [(problem("conv", "p4m", 90, 90, dtype), algorithm) for algorithm in ("direct", "fourier", "staged")]
    check(convolutions(chosen, activation=activation, statistics=statistics), architecture)


@pytest.mark.parametrize("arithmetic", ["bf16"], indirect=True)
def test_offsets_in_int64(arithmetic, architecture):
    """Maps of more than 2^31 numbers."""
    wide = [(problem(op, "p4m", 64, 64, torch.bfloat16, batch=33, size=360), algorithm)
            for algorithm in ("direct", "fourier", "staged") for op in ("conv", "conv_weight_grad")]  # fmt: skip
    programs = convolutions(wide)
    programs = [program for program in programs if not program.of_filters]
    assert all(program.source.constants[program.source.fn.arg_names.index("WIDE"),] for program in programs)
    check(programs, architecture)


@pytest.mark.parametrize("architecture", TENSOR_CORES, indirect=True)
@pytest.mark.parametrize("arithmetic", ["bf16"], indirect=True)
def test_the_tensor_instruction_of_each_generation(arithmetic, architecture):
    chosen = [(problem(op, "p4m", 64, 64, torch.bfloat16), a) for a, op in (("fourier", "conv"), ("direct", "conv"))]
    for result in check(convolutions(chosen), architecture):
        assert TENSOR_CORES[architecture] in result.ptx


@pytest.mark.parametrize("arithmetic", ["bf16"], indirect=True)
@pytest.mark.parametrize("architecture", ["sm_90"], indirect=True)
@pytest.mark.parametrize(("algorithm", "channels"), [("fourier", (90, 181)), ("direct", (22, 11))])
def test_weights_are_loaded_in_whole_vectors(algorithm, channels, arithmetic, architecture):
    """Asynchronous copies, of 4 bytes at least, for any number of channels: the filters' copy has padded rows."""
    (result,) = compiled(convolutions([(problem("conv", "p4m", *channels, torch.bfloat16), algorithm)]),
                         architecture)  # fmt: skip
    assert re.search(r"cp\.async\.\w+\.shared\.global \[.*\], 0x(4|8|10)\b", result.ptx)


def convolutions(layers_and_algorithms, **folded):
    """The programs of the products and of the staged algorithm's kernels; other ones are in ``run_others``."""
    programs = []
    for layer, algorithm in layers_and_algorithms:
        name = f"{algorithm} {layer.op} {layer.group.name} {layer.in_channels}->{layer.out_channels} {layer.dtype}"
        programs += recorded(name, partial(run_conv, **folded), layer, algorithm)
    kernels = "conv_kernel", "weight_grad_kernel", "gather_kernel", "scatter_kernel"
    return [program for program in programs if program.name.startswith(kernels)]


def test_norm_pool_and_filters(architecture):
    check(recorded("181 channels", run_others, 181), architecture)


@pytest.mark.parametrize("architecture", ["sm_90"], indirect=True)
def test_norm_in_float64(architecture):
    check(recorded("11 channels", run_norm, 11, torch.float64), architecture)


def run_norm(channels, dtype):
    x = torch.empty(32, channels, 8, 32, 32, dtype=dtype, device="meta").to(memory_format=torch.channels_last_3d)
    sums = torch.float64 if dtype == torch.float64 else torch.float32
    vector, per_sample = (torch.empty(shape, dtype=sums, device="meta") for shape in (channels, (32, channels)))
    affine = Affine(per_sample, vector, 0.2)
    norm.norm_stats(x)
    norm.norm_apply(x, vector, vector, affine)
    norm.norm_backward_sums(x, x, vector, vector, affine)
    norm.norm_backward_input(x, x, vector, vector, affine, vector, vector)
    return x


def run_others(channels):
    x = run_norm(channels, torch.bfloat16)
    value, index = pool.group_max(x)
    pool.group_max_scatter(value, index, 8)
    pool.group_max_gather(x, index)
    point = gk.point_group("p4m")
    filters.reduce_filters(filters.expand_filters(torch.empty(8, 8, 8, 3, 3, device="meta"), point), point, 8)
    for op, algorithm in (("conv", "fourier"), ("conv_weight_grad", "direct"), ("conv_weight_grad", "fourier")):
        run_conv(problem(op, "p4m", 8, 8, torch.bfloat16), algorithm)  # the filters' transform, the sum of the parts
