"""``python -m benches.gpu_suite``: the layers and training steps of the GANs on one NVIDIA GPU, in under ten minutes.

First the device tests ``tests/kernels/test_gpu_*.py`` run. Then, in bfloat16 and in tf32, every convolution, norm and
pool of the networks is checked against the naive layers and timed against them (filter stack on cuDNN in channels_last,
for some also through ``torch.compile``), and whole steps are timed in eager mode and as CUDA graphs. Rates are given as
shares of what a large matrix product and a large copy reach in the same run.

It prints a table and writes JSON, anew after every case, and a picture to ``benches/results/``. A case that fails is
recorded with its error; the exit status is then 1, as it is if a device test fails.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

import gcnn_kernels as gk

from . import layers, naive
from .cases import BATCHES, ConvCase, MapCase, conv_cases, map_cases

RESULTS = Path(__file__).parent / "results"
BUDGET = 540  # seconds; cases that no longer fit are listed as left out
TEST_SECONDS, COMPILE_SECONDS = 200, 100  # of these, at most
MODES = ("forward", "forward+backward")
TOLERANCES = {"bf16": 1e-2, "tf32": 1e-3}  # ||out - ref|| / ||ref|| against float64
DTYPES = {"bf16": torch.bfloat16, "tf32": torch.float32}
COMPILED_RIVAL = ("rotmnist-G-block2-conv-p4", "anhir-G-block3-conv2-p4m")
STEPS = (("anhir", "p4m"), ("rotmnist", "p4"), ("food101", "p4"))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benches.gpu_suite", description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON and the picture")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("benches.gpu_suite: needs an NVIDIA GPU; torch.cuda.is_available() is False", file=sys.stderr)
        return 1
    allow_tf32()
    torch.backends.cudnn.benchmark = True
    report = run(torch.device("cuda"), torch.cuda.get_device_name(), options.output)
    return 0 if report["device_tests"] == "passed" and not report["errors"] else 1


def run(device, gpu: str, folder: Path) -> dict:
    """The whole suite; returns the report that it also writes to the folder."""
    deadline = time.monotonic() + BUDGET
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{gpu.lower().replace(' ', '-')}.json"
    report = {"gpu": gpu, "torch": torch.__version__, "device_tests": device_tests()}
    write(report, path)
    cases = [at_paper_batch(case) for case in (*conv_cases(), *map_cases())]
    compile_ahead(cases)
    report["ceilings"] = ceilings(device)
    measure(report, jobs(cases, device, report["ceilings"]), deadline, path)
    summarise(report)
    write(report, path)
    plot(report, path.with_suffix(".png"))
    return report


def device_tests() -> str:
    """ "passed", or what went wrong. They have a process of their own: after a fault it could not use CUDA any more."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "test_gpu_kernels.py", "test_gpu_triton.py"]
    tests = Path(__file__).parents[1] / "tests" / "kernels"
    try:
        run = subprocess.run(command, cwd=tests, stdout=subprocess.PIPE, text=True, timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired:
        return f"not finished in {TEST_SECONDS} s"
    print(run.stdout[-6000:], flush=True)
    return "passed" if run.returncode == 0 else run.stdout[-6000:]


def jobs(cases, device, ceilings) -> list[tuple[str, Callable]]:
    """Names and functions, the most important first: layers in bfloat16, whole steps, layers in tf32."""

    def layers_in(name):
        return [(f"{case.name} {name}", partial(time_case, case, name, device, ceilings)) for case in cases]

    steps = [
        (f"{dataset}-{player}-step-{group}", partial(time_step, dataset, group, player, device))
        for dataset, group in STEPS
        for player in "DG"
    ]
    return [*layers_in("bf16"), *steps, *layers_in("tf32")]


def measure(report, jobs, deadline, path) -> None:
    """Runs the jobs and writes the report after each. One that fails is recorded and the next begins."""

    def out_of_time(*_):
        raise TimeoutError("the budget was spent")

    report |= {"results": [], "errors": {}, "left_out": []}
    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, max(1e-3, deadline - time.monotonic()))
    try:
        for name, job in jobs:
            if time.monotonic() > deadline:
                report["left_out"].append(name)
                continue
            try:
                results = job()
            except Exception as error:
                report["errors"][name] = f"{type(error).__name__}: {error}"
                print(f"FAILED {name}: {report['errors'][name]}", flush=True)
            else:
                report["results"] += results
                print(*map(line, results), sep="\n", flush=True)
            torch.cuda.empty_cache()
            write(report, path)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def write(report, path: Path) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(report, indent=1) + "\n")
    draft.replace(path)


def allow_tf32() -> None:
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cuda.matmul.allow_tf32 = True


def at_paper_batch(case):
    return replace(case, batch=BATCHES[case.name.split("-")[0]])


# --- timing ----------------------------------------------------------------------------------------------------
def milliseconds(function, rounds: int = 20) -> float:
    """The median of single runs by CUDA events, the L2 cache overwritten before each."""
    flush = torch.empty(2**28, dtype=torch.int8, device="cuda")
    for _ in range(3):
        function()
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for first, last in events:
        flush.zero_()
        first.record()
        function()
        last.record()
    torch.cuda.synchronize()
    return statistics.median(first.elapsed_time(last) for first, last in events)


def peak_mebibytes(function) -> float:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    function()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def ceilings(device) -> dict:
    """TFLOP/s of a product of 8192 x 8192 matrices, and GB/s (read and written) of a copy of 4 GiB."""
    found = {}
    for name, dtype in DTYPES.items():
        a, b = torch.randn(2, 8192, 8192, device=device).to(dtype)
        found[name] = 2 * 8192**3 / milliseconds(lambda a=a, b=b: a @ b) * 1e-9
    source = torch.empty(2**32, dtype=torch.int8, device=device)
    target = torch.empty_like(source)
    found["copy"] = 2 * source.numel() / milliseconds(lambda: target.copy_(source)) * 1e-6
    return found


def compile_ahead(cases) -> None:
    """Compiles the kernels of all cases in several processes, into Triton's cache on disk, for ``COMPILE_SECONDS``.

    What fails here, or is not reached, does so again where it is timed.
    """
    deadline = time.monotonic() + COMPILE_SECONDS
    work = [(case, name) for name in DTYPES for case in cases]
    with multiprocessing.get_context("spawn").Pool(max(1, min(12, (os.cpu_count() or 2) - 2))) as pool:
        done = pool.imap_unordered(_run_once, work)
        for _ in work:
            try:
                done.next(timeout=max(0.0, deadline - time.monotonic()))
            except multiprocessing.TimeoutError:
                return
            except Exception as error:
                print(f"compiling ahead: {type(error).__name__}: {error}", flush=True)


def _run_once(job):
    case, name = job
    allow_tf32()
    small = replace(case, batch=min(case.batch, 16))
    contestants(small, DTYPES[name], torch.device("cuda"))["ours"]("forward+backward")


# --- contestants -----------------------------------------------------------------------------------------------
def contestants(case, dtype, device) -> dict:
    """Name -> function of the mode."""
    if isinstance(case, MapCase):
        return map_contestants(case, dtype, device)
    tensors = layers.draw(case, device, dtype)
    stack = partial(layers.filter_stack, case, tensors, naive.stack_by_rot90, torch.channels_last)
    found = {"ours": layers.ours(case, tensors).run, "naive": stack().run}
    if case.name in COMPILED_RIVAL:
        found["compiled naive"] = stack(compiled=True).run
    return found


def map_contestants(case: MapCase, dtype, device) -> dict:
    generator = torch.Generator(device).manual_seed(0)
    x, dy = torch.randn((2, *case.shape), generator=generator, device=device).to(dtype)
    per_map = (case.batch, case.channels) if case.conditional else (case.channels,)
    affine = {"device": device, "dtype": dtype if case.conditional else torch.float32}
    weight, bias = torch.ones(per_map, **affine), torch.zeros(per_map, **affine)
    moments = torch.zeros(case.channels, device=device), torch.ones(case.channels, device=device)
    functions = {
        "norm": (gk.group_batch_norm, naive.group_batch_norm),
        "pool": (gk.group_max_pool, naive.group_max_pool),
    }[case.kind]
    arguments = (*moments, weight, bias, True, 0.1, 1e-5, "relu") if case.kind == "norm" else ()
    leaves = (weight, bias) if case.kind == "norm" else ()

    def runner(function, as_map):
        def run(mode):
            if mode == "forward":
                with torch.no_grad():
                    return [function(x_here, *arguments)]
            for leaf in (x_here, *leaves):
                leaf.requires_grad_()
            y = function(x_here, *arguments)
            return [y.detach(), *torch.autograd.grad(y, (x_here, *leaves), dy_here[y.dim()])]

        x_here = as_map(x)
        dy_here = {5: as_map(dy), 4: dy[:, :, 0].contiguous(memory_format=torch.channels_last)}
        return run

    planar = torch.channels_last

    def as_planar(t):
        return t.flatten(1, 2).contiguous(memory_format=planar).unflatten(1, t.shape[1:3])

    return {
        "ours": runner(functions[0], lambda t: t.contiguous(memory_format=torch.channels_last_3d)),
        "naive": runner(functions[1], as_planar),
    }


def time_case(case, name, device, ceiling) -> list[dict]:
    """One record per mode; the results of both are compared before."""
    found = []
    functions = contestants(case, DTYPES[name], device)
    difference = layers.error(*(run("forward+backward") for run in (functions["ours"], functions["naive"])))
    if not difference <= 2 * TOLERANCES[name]:  # each may be off by the tolerance
        raise RuntimeError(f"{case.name} {name}: ours and naive differ by {difference:.1e}")
    for mode in MODES:
        times = {rival: milliseconds(partial(run, mode)) for rival, run in functions.items()}
        memory = {rival: peak_mebibytes(partial(run, mode)) for rival, run in functions.items()}
        record = {"case": case.name, "kind": case.kind, "group": case.group, "dtype": name, "mode": mode}
        record |= {"milliseconds": times, "mebibytes": memory, "difference": difference}
        if isinstance(case, ConvCase):
            record["in_channels"], record["out_channels"] = case.in_channels, case.out_channels
            rate = layers.stack_gflop(case, mode) / times["ours"]  # the stack's operations, whatever was done
            record |= {"stack_tflops": rate, "share": rate / ceiling[name]}
            record["algorithms"] = layers.chosen_algorithms(case, mode, device=device, dtype=DTYPES[name])
        else:
            rate = map_bytes(case, mode, DTYPES[name]) / times["ours"] * 1e-6
            record |= {"gigabytes_per_second": rate, "share": rate / ceiling["copy"]}
        found.append(record)
    return found


def map_bytes(case: MapCase, mode, dtype) -> int:
    """What must be read and written at least: a norm reads x twice (statistics, then application)."""
    numbers = torch.Size(case.shape).numel()
    order = gk.point_group(case.group).order
    if case.kind == "norm":
        forward, backward = 3 * numbers * dtype.itemsize, 5 * numbers * dtype.itemsize
    else:  # the index is one byte
        small = numbers // order
        forward = backward = (numbers + small) * dtype.itemsize + small
    return forward if mode == "forward" else forward + backward


# --- whole steps -----------------------------------------------------------------------------------------------
def time_step(dataset, group, player, device) -> list[dict]:
    """One update of one player in bf16, ours against the naive layers and against the plain CNN, eager and as a graph.

    A CUDA graph replays the networks' forward and backward passes; the optimizer's step is in it too.
    """
    ours, plain = (GanStep(dataset, g, player, device) for g in (group, "p1"))

    def naive_step():
        with naive.layers(torch.channels_last):
            ours()

    def plain_step():
        with naive.layers(torch.channels_last):
            plain()

    functions = {"ours": ours, "naive": naive_step, "plain CNN": plain_step}
    found = []
    for mode, prepare in (("eager", lambda function: function), ("CUDA graph", as_graph)):
        times = {name: milliseconds(prepare(function), rounds=10) for name, function in functions.items()}
        name = f"{dataset}-{player}-step-{group}"
        found.append(
            {"case": name, "kind": "step", "group": group, "dtype": "bf16", "mode": mode, "milliseconds": times}
        )
    return found


class GanStep:
    """The gradients of one player's loss (for D with R1) and an Adam update."""

    def __init__(self, dataset, group, player, device):
        from gan.networks import PRESETS, build_discriminator, build_generator
        from gan.objectives import build_loss, r1

        self.player, self.r1, self.loss = player, r1, build_loss("ragan")
        self.generator, self.discriminator = build_generator(dataset, group), build_discriminator(dataset, group)
        batch, generator = BATCHES[dataset], torch.Generator().manual_seed(0)
        self.labels = torch.randint(PRESETS[dataset].classes, (batch,), generator=generator).to(device)
        self.z = torch.randn(batch, self.generator.latent_dim, generator=generator).to(device)
        self.images = torch.randn(batch, *self.generator.image_shape, generator=generator).to(device)
        for network in (self.generator, self.discriminator):
            network.to(device)
        trained = self.discriminator if player == "D" else self.generator
        self.parameters = list(trained.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, 1e-4, (0.0, 0.9), fused=True, capturable=True)

    def __call__(self):
        with torch.autocast(self.images.device.type, torch.bfloat16, cache_enabled=False):
            total = self.discriminator_loss() if self.player == "D" else self.generator_loss()
        gradients = torch.autograd.grad(total, self.parameters)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()

    def discriminator_loss(self):
        with torch.no_grad():
            fake = self.generator(self.z, self.labels).float()
        images = self.images.detach().requires_grad_()
        real_logits, fake_logits = (self.discriminator(i, self.labels).float() for i in (images, fake))
        return self.loss.discriminator(real_logits, fake_logits) + self.r1(real_logits, images, gamma=0.1)

    def generator_loss(self):
        with torch.no_grad():
            real_logits = self.discriminator(self.images, self.labels).float()
        fake = self.generator(self.z, self.labels).float()
        return self.loss.generator(real_logits, self.discriminator(fake, self.labels).float())


def as_graph(function):
    """Replays the function as a CUDA graph; it runs three times on another stream before, which fills all caches."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            function()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


# --- report ----------------------------------------------------------------------------------------------------
def ratio(result, rival="naive") -> float:
    return result["milliseconds"][rival] / result["milliseconds"]["ours"]


def line(result) -> str:
    times = ", ".join(f"{name} {t:.3f} ms" for name, t in result["milliseconds"].items())
    share = f", {result['share']:.0%} of the ceiling" if "share" in result else ""
    algorithms = f" ({', '.join(result['algorithms'])})" if "algorithms" in result else ""
    return f"{ratio(result):5.2f}x  {result['case']} {result['dtype']} {result['mode']}{algorithms}: {times}{share}"


def summarise(report) -> None:
    """Geometric means of the layers with at least 64 channels, the slowest ratio, and what was left out."""
    report["summary"] = {}
    for group in ("p4", "p4m"):
        for name in DTYPES:
            wide = [
                ratio(r)
                for r in report["results"]
                if (r["kind"], r["group"], r["dtype"], r["mode"]) == ("group", group, name, "forward+backward")
                and min(r["in_channels"], r["out_channels"]) >= 64
            ]
            if wide:
                report["summary"][f"{group} {name} forward+backward, 64 channels or more"] = statistics.geometric_mean(
                    wide
                )
    if report["results"]:
        slowest = min(report["results"], key=ratio)
        report["summary"][f"slowest: {slowest['case']} {slowest['dtype']} {slowest['mode']}"] = ratio(slowest)
    print("\nceilings:", {name: round(value) for name, value in report["ceilings"].items()})
    for name, value in report["summary"].items():
        print(f"{value:5.2f}x  {name}")
    for name in report["left_out"]:
        print("left out, no time:", name)
    for name, error in report["errors"].items():
        print(f"failed: {name}: {error}")


def plot(report, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [r for r in report["results"] if r["mode"] == "forward+backward" and r["dtype"] == "bf16"]
    shown.sort(key=lambda r: (r["kind"], ratio(r)))
    figure, axes = plt.subplots(figsize=(8, 1 + 0.22 * len(shown)), layout="constrained")
    colours = {"group": "C0", "lifting": "C1", "norm": "C2", "pool": "C3"}
    axes.barh([r["case"] for r in shown], [ratio(r) for r in shown], color=[colours[r["kind"]] for r in shown])
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("times faster than the naive layer, bfloat16, forward and backward")
    axes.set_title(report["gpu"])
    axes.tick_params(axis="y", labelsize=6)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
