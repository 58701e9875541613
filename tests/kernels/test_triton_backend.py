"""The triton backend's predicates, cost model and tuning command, none of which needs a GPU."""

from __future__ import annotations

import importlib.metadata
import json
import math
import subprocess
import sys

import pytest
import torch

import gcnn_kernels as gk
from gcnn_kernels import tune
from gcnn_kernels.backends import ConvProblem
from gcnn_kernels.backends import triton as backend


def test_importing_the_package_does_not_import_triton():
    code = "import sys, gcnn_kernels; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_reasons_for_a_missing_or_old_triton(monkeypatch):
    def not_installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_installed)
    assert backend.unavailable.__wrapped__() == "the package triton is not installed"
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.5.1")
    assert backend.unavailable.__wrapped__() == "it needs triton 3.6 or newer, installed is 3.5.1"
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.10.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert backend.unavailable.__wrapped__() == "no NVIDIA GPU is usable here: torch.cuda.is_available() is False"


def test_an_explicit_request_says_why_it_cannot_be_served(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.5.1")
    monkeypatch.setattr(backend.BACKEND, "unavailable", backend.unavailable.__wrapped__)
    with pytest.raises(RuntimeError, match=r"'triton' cannot run conv .*it needs triton 3.6 or newer"):
        gk.group_conv2d(torch.zeros(1, 2, 4, 5, 5), torch.zeros(3, 2, 4, 3, 3), backend="triton")


def test_reasons_for_a_tensor(monkeypatch):
    reason = backend.unsupported.__wrapped__
    assert reason(torch.device("cpu"), torch.float32) == "it runs on NVIDIA GPUs, not on cpu"
    device = torch.device("cuda", 0)
    assert "not torch.float8_e5m2" in reason(device, torch.float8_e5m2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert reason(device, torch.float32) == "it needs compute capability 8.0 (Ampere) or newer, cuda:0 has 7.5"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert reason(device, torch.float32) is None


def test_more_numbers_than_int32_counts_are_refused():
    pytest.importorskip("triton")
    served, many_pixels, large_sample = (
        problem(channels=(c, c), size=n) for c, n in ((1, 8000), (1, 8192), (64, 2048))
    )
    unsupported = backend.BACKEND.conv.unsupported
    assert unsupported(served, "direct") is None
    for refused in (many_pixels, large_sample):
        assert unsupported(refused, "direct").endswith("in int32, here are 2147483648")


@pytest.mark.parametrize(
    ("layer", "algorithm", "reason"),
    [
        ({"channels": (16384, 16384)}, "direct", "'direct' counts the filters' numbers in int32, here are 19327352832"),
        ({"channels": (16384, 16384)}, "fourier", "'fourier' counts the filters' numbers in int32"),
        ({"kernel": 9}, "fourier", "'fourier' serves filters up to 8 x 8, not 9"),
        ({"lifting": True}, "staged", "'staged' serves group convolutions, not lifting"),
    ],
)
def test_layers_that_an_algorithm_cannot_serve(cost, layer, algorithm, reason):
    layer = problem(**layer)
    assert reason in backend.BACKEND.conv.unsupported(layer, algorithm)
    assert algorithm not in cost.candidates(layer)
    assert backend.BACKEND.conv.unsupported(layer, "expand") is None


def test_an_error_for_want_of_memory_says_what_was_asked_for(monkeypatch):
    launch = pytest.importorskip("gcnn_kernels.backends.triton.launch")

    def full(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "empty", full)
    with pytest.raises(
        torch.OutOfMemoryError, match=r"no memory for the output: \(1024, 1024\) of torch.float32, 4 MiB"
    ):
        launch.empty("the output", (1024, 1024), torch.float32, torch.device("cpu"))


@pytest.fixture
def cost(monkeypatch, tmp_path):
    from gcnn_kernels.backends.triton import cost

    monkeypatch.setenv("GCNN_TUNE_DIR", str(tmp_path))
    monkeypatch.setattr(cost, "generation", lambda device: "sm_90")
    caches = (cost.table, cost._choose_tile, cost._choose_algorithm)
    for cached in caches:
        cached.cache_clear()
    yield cost
    for cached in caches:
        cached.cache_clear()


def problem(op="conv", group="p4m", channels=(64, 64), lifting=False, size=32, dtype=torch.bfloat16, kernel=3):
    point = gk.point_group(group)
    slots = 1 if lifting else point.order
    x_shape, weight_shape = (32, channels[0], slots, size, size), (channels[1], channels[0], slots, kernel, kernel)
    device = torch.device("meta")
    return ConvProblem.of(op, x_shape, weight_shape, group=point, padding=(1, 1), dtype=dtype, device=device)


@pytest.mark.parametrize("op", ["conv", "conv_input_grad", "conv_weight_grad"])
@pytest.mark.parametrize("name", ["sm_80", "sm_90", "sm_100"])
def test_tiles_fit_what_tensor_cores_take(cost, monkeypatch, name, op):
    """At least 16 in each direction and powers of two, for any number of channels; slots divide the group."""
    monkeypatch.setattr(cost, "generation", lambda device: name)
    for group in ("p4", "p4m"):
        for channels in ((1, 64), (3, 11), (11, 3), (22, 45), (45, 1), (90, 181), (512, 16)):
            for dtype in (torch.float64, torch.float32, torch.bfloat16):
                for lifting in (True, False):
                    layer = problem(op, group, channels, lifting, dtype=dtype)
                    for algorithm in set(cost.candidates(layer)) - {"expand", "staged"}:
                        tile = cost.choose_tile(layer, algorithm)
                        sizes = (tile.rows, tile.columns * tile.slots, tile.depth)
                        assert min(sizes) >= 16, (layer, tile)
                        assert all(math.log2(size).is_integer() for size in sizes)


def test_group_layers_go_to_fourier_wide_ones_staged_and_lifting_layers_to_neither(cost):
    assert cost.choose_algorithm(problem(channels=(128, 128))) == "fourier"
    assert cost.choose_algorithm(problem(channels=(512, 512))) == "staged"
    for channels in (128, 512):
        assert cost.choose_algorithm(problem(channels=(channels, channels), lifting=True)) in ("direct", "expand")


@pytest.fixture
def float32_settings():
    """Those of convolutions and of matrix products; set back afterwards."""
    settings = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [setting.fp32_precision for setting in settings]
    yield settings
    for setting, precision in zip(settings, before, strict=True):
        setting.fp32_precision = precision


@pytest.mark.parametrize(
    ("conv", "matmul", "served"),
    [("tf32", "tf32", True), ("ieee", "ieee", True), ("tf32", "ieee", False), ("ieee", "tf32", False)],
)
def test_staged_in_float32_only_where_products_are_computed_as_convolutions_are(
    cost, float32_settings, conv, matmul, served
):
    layer = problem(channels=(512, 512), dtype=torch.float32)
    float32_settings[0].fp32_precision, float32_settings[1].fp32_precision = conv, matmul
    assert ("staged" in cost.candidates(layer)) == served


def test_products_of_the_staged_algorithm(cost):
    """6 (p4) and 12 (p4m) of them for a pixel, a tap and a pair of channels, and the coefficients twice."""
    ceilings, c, pixels = cost.table("sm_90"), 256, 32 * 32 * 32
    for group, order, products in (("p4", 4, 6), ("p4m", 8, 12)):
        expected = 2 * pixels * 9 * c * c * products / (ceilings["tflops"]["16"] * 1e12 * 0.6)
        numbers = order * (c + 2 * 9 * c + 5 * c) * pixels + 2 * (order // 2 + 4) * 9 * c * c
        expected += 2 * numbers / (0.8 * 3350e9) + 10e-6
        found = cost.expected_time(problem(group=group, channels=(c, c)), "staged", "16")
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_measured_layer_decides_for_its_neighbours(cost, tmp_path):
    layer = problem(channels=(128, 128))
    record = {**cost.layer_key(layer, "16"), **cost.layer_sizes(layer)}
    record["milliseconds"] = {"direct": 1.0, "fourier": 2.0, "expand": 3.0}
    table = json.loads((cost._TABLES / "sm_90.json").read_text())
    (tmp_path / "sm_90.json").write_text(json.dumps(table | {"measured": [record]}))
    cost.table.cache_clear()
    assert cost.choose_algorithm(problem(channels=(128, 100))) == "direct"
    assert cost.choose_algorithm(problem(channels=(128, 32))) == "fourier"  # too far away
    assert cost.choose_algorithm(problem(channels=(128, 100), group="p4")) != "direct"


def test_a_table_that_cannot_be_read_is_an_error(cost, tmp_path):
    (tmp_path / "sm_90.json").write_text("{")
    with pytest.raises(RuntimeError, match=r"the tuning table .*sm_90.json cannot be read"):
        cost.choose_algorithm(problem())


def test_shipped_tables_say_that_they_were_not_measured(cost):
    for name in ("sm_80", "sm_90", "sm_100"):
        table = cost.table(name)
        assert bool(table["measured"]) == (not table["source"].startswith("Not measured."))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to be measured")
def test_tuning_without_a_gpu_says_so(capsys):
    assert tune.main([]) == 1
    assert "nothing can be measured here" in capsys.readouterr().err
