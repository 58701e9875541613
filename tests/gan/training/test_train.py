"""gan.train from the command line: runs, resumption, and what it refuses."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gan.commands import train as command
from gan.networks.spectral import SpectralNorm
from gan.runs.checkpoints import CheckpointFolder
from gan.runs.folder import RunFolder
from gan.training import graphs, loop, start
from gan.training.synthesis import SynthesisUpdates

TINY = [
    "--dataset", "digits", "--width", "0.1", "--batch-size", "8", "--eval-every", "0", "--checkpoint-every", "2",
    "--sample-every", "100", "--log-every", "1", "--device", "cpu",
]  # fmt: skip


def run(outdir, *more, iterations=6):
    return command.main([*TINY, "--outdir", str(outdir), "--iterations", str(iterations), *more])


def weights(outdir, iteration):
    return load_file(outdir / "checkpoints" / f"iteration-{iteration:08d}.safetensors")


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Drawing the curves and counting operations outlast so small a run; ``finished`` has both, coming before."""
    monkeypatch.setattr(loop, "write_curves", lambda *arguments, **options: None)
    monkeypatch.setattr(start, "operations", lambda options: 1e9)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of six iterations that nothing happened to."""
    outdir = tmp_path_factory.mktemp("finished") / "run"
    assert run(outdir) == 0
    return outdir


@pytest.fixture
def copy(finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "run"))


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert not different


def test_a_run_leaves_its_files(finished):
    assert json.loads((finished / "options.json").read_text())["options"]["width"] == 0.1
    assert (finished / "curves.png").stat().st_size > 0
    assert [f.name for f in sorted((finished / "samples").iterdir())] == [
        "iteration-00000000.png", "iteration-00000006.png", "real.png",
    ]  # fmt: skip
    assert "iteration 6/6" in (finished / "log.txt").read_text()
    records = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [record["iteration"] for record in records] == [1, 2, 3, 4, 5, 6]
    assert {"loss_d", "loss_g", "penalty"} <= records[0].keys()
    kept = sorted(f.name for f in (finished / "checkpoints").iterdir())
    assert kept == [f"iteration-{i:08d}.{kind}" for i in (4, 6) for kind in ("json", "safetensors")]


def test_tensorboard_gets_the_numbers_of_every_line(copy, monkeypatch):
    opened, written = [], []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            opened.append((folder, purge_step))

        def add_scalar(self, *arguments):
            written.append(arguments)

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    assert run(copy, iterations=8) == 0
    assert opened == [(copy / "tensorboard", 7)]
    records = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()][6:]
    expected = [(name, record[name], record["iteration"]) for record in records for name in record]
    assert written == [scalar for scalar in expected if scalar[0] != "iteration"] + ["closed"]


def test_without_tensorboard_nothing_is_missing(copy, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert run(copy, iterations=7) == 0
    assert not (copy / "tensorboard").exists()


def test_more_iterations_go_on_from_the_end(copy, tmp_path):
    assert run(copy, iterations=8) == 0
    assert run(tmp_path / "other", iterations=8) == 0
    assert_same_weights(weights(copy, 8), weights(tmp_path / "other", 8))


def test_a_finished_run_is_left_alone(copy, capsys):
    before = {file: file.stat().st_mtime_ns for file in (copy / "checkpoints").iterdir()}
    assert run(copy) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in (copy / "checkpoints").iterdir()} == before


def truncate(file):
    file.write_bytes(file.read_bytes()[:-100])


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def remove_the_other_half(file):
    file.with_suffix(".json").unlink()


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, remove_the_other_half])
def test_a_corrupt_checkpoint_is_named_and_the_previous_one_used(copy, finished, capsys, damage):
    newest = copy / "checkpoints" / "iteration-00000006.safetensors"
    damage(newest)
    assert run(copy) == 0
    out = capsys.readouterr().out
    assert str(newest) in out and "resuming at iteration 4" in out
    assert_same_weights(weights(copy, 6), weights(finished, 6))
    assert newest.with_name(f"{newest.name}.corrupt").exists()


def test_without_any_usable_checkpoint_nothing_is_overwritten(copy, capsys):
    for file in (copy / "checkpoints").glob("*.safetensors"):
        truncate(file)
    before = {file: file.read_bytes() for file in (copy / "checkpoints").iterdir()}
    assert run(copy) == 1
    err = capsys.readouterr().err
    assert "iteration-00000006.safetensors" in err and "iteration-00000004.safetensors" in err
    assert {file: file.read_bytes() for file in (copy / "checkpoints").iterdir()} == before


def test_changed_options_are_named(copy, capsys):
    assert run(copy, "--r1", "0.2", "--seed", "3") == 1
    err = capsys.readouterr().err
    assert "r1 was 0.1 and is 0.2" in err and "seed was 0 and is 3" in err and "width" not in err


def test_changed_data_are_refused(tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 16, 16, 3), np.uint8)
    (tmp_path / "mine").mkdir()
    for i in range(8):
        Image.fromarray(pixels[i]).save(tmp_path / "mine" / f"{i}.png")
    options = ["--dataset", "folder", "--preset", "digits", "--data", str(tmp_path / "mine")]
    assert run(tmp_path / "run", *options, iterations=2) == 0
    before = {file: file.read_bytes() for file in (tmp_path / "run" / "checkpoints").iterdir()}
    Image.fromarray(pixels[8]).save(tmp_path / "mine" / "3.png")
    assert run(tmp_path / "run", *options, iterations=4) == 1
    assert "the training images are not those that the run in" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in (tmp_path / "run" / "checkpoints").iterdir()} == before
    Image.fromarray(pixels[3]).save(tmp_path / "mine" / "3.png")  # as they were, with another time
    assert run(tmp_path / "run", *options, iterations=4) == 0


def test_two_processes_in_one_folder(copy, capsys):
    with open(copy / ".lock", "a") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(copy) == 1
    assert "another process is training" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "run") == 1
    assert f"cannot write to {tmp_path / 'file' / 'run'}" in capsys.readouterr().err


def test_a_loss_that_is_not_finite(copy, capsys, monkeypatch):
    update, calls = SynthesisUpdates.generator, itertools.count(7)  # the run has done six iterations

    def broken(self, batch):
        losses = update(self, batch)
        return losses if next(calls) < 9 else {"loss_g": losses["loss_g"] * float("nan")}

    monkeypatch.setattr(SynthesisUpdates, "generator", broken)
    assert run(copy, iterations=20) == 1
    err = capsys.readouterr().err
    assert "iteration 9: loss_g is nan" in err and "iteration-00000008.safetensors" in err
    assert sorted(f.stem for f in (copy / "checkpoints").glob("*.safetensors"))[-1] == "iteration-00000008"


def test_weights_that_are_not_finite_are_not_saved(copy, capsys, monkeypatch):
    update, calls = SynthesisUpdates.generator, itertools.count(7)  # the run has done six iterations

    def broken(self, batch):
        losses = update(self, batch)
        if next(calls) == 8:
            next(self.state.generator.parameters()).data.fill_(float("inf"))
        return losses

    monkeypatch.setattr(SynthesisUpdates, "generator", broken)
    assert run(copy, iterations=20) == 1
    assert "is not finite; last good checkpoint" in capsys.readouterr().err
    assert not (copy / "checkpoints" / "iteration-00000008.safetensors").exists()


def test_a_full_disk(copy, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    before = {file: file.read_bytes() for file in (copy / "checkpoints").iterdir()}
    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(RunFolder, "write_options", lambda self, options: None)
    monkeypatch.setattr(RunFolder, "forget_metrics_after", lambda self, iteration: None)
    assert run(copy, iterations=20) == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err and "iteration-00000006.safetensors" in err
    assert {file: file.read_bytes() for file in (copy / "checkpoints").iterdir()} == before


def test_sigterm_saves_and_leaves(tmp_path, finished, monkeypatch):
    outdir, iterate = tmp_path / "run", loop.Training.iterate

    def terminated(self):
        if self.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return iterate(self)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "iterate", terminated)
        assert run(outdir) == 128 + signal.SIGTERM
    assert CheckpointFolder(outdir / "checkpoints").newest(print).iteration == 3
    assert run(outdir) == 0
    assert_same_weights(weights(outdir, 6), weights(finished, 6))


@pytest.mark.parametrize("loss", ["ragan", "rpgan", "nsgan", "wgan", "hinge", "alpha"])
def test_every_loss_in_every_cell(tmp_path, loss):
    for generator in ("p1", "p4"):
        for discriminator in ("p1", "p4"):
            groups = ["--generator-group", generator, "--discriminator-group", discriminator]
            outdir = tmp_path / f"{generator}-{discriminator}"
            assert run(outdir, "--loss", loss, *groups, iterations=2) == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--amp", "bf16"],
        ["--amp", "fp16"],
        ["--accumulate", "2"],
        ["--r1-every", "2"],
        ["--loss", "rpgan", "--r2", "0.1", "--amp", "fp16"],
        ["--generator-symmetry", "full"],
        ["--data-fraction", "0.1"],
        ["--augment", "standard", "--discriminator-group", "p1"],
        ["--augment", "bcr", "--discriminator-group", "p1", "--bcr-real", "2", "--bcr-fake", "1"],
        ["--lr-g", "1e-4", "--lr-d", "3e-4", "--beta1", "0.5", "--beta2", "0.99"],
        ["--loss", "alpha", "--alpha", "3", "--gradient-penalty", "1"],
        ["--augment", "diffaugment", "--r2", "0.1", "--amp", "bf16"],
        ["--augment", "rotations", "--discriminator-group", "p1"],
        ["--generator-group", "p4m", "--discriminator-group", "p4m"],
    ],
    ids=lambda options: "-".join(options)[2:],
)
def test_options_train(tmp_path, options):
    assert run(tmp_path / "run", *options, iterations=2) == 0


@pytest.mark.slow
def test_compiled_training_is_that_of_eager_mode(tmp_path, monkeypatch):
    monkeypatch.setattr(SpectralNorm, "forward", SpectralNorm.forward)  # restored afterwards
    for name, more in (("eager", []), ("compiled", ["--compile"])):
        assert run(tmp_path / name, "--loss", "rpgan", "--r2", "0.1", *more, iterations=2) == 0
    eager, compiled = (weights(tmp_path / name, 2) for name in ("eager", "compiled"))
    assert eager.keys() == compiled.keys()
    for name, expected in eager.items():
        torch.testing.assert_close(compiled[name], expected, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    "options", [[], ["--r1", "0", "--r2", "0.1", "--r1-every", "3", "--generator-symmetry", "full"]]
)
def test_graphed_updates_are_those_that_were_recorded(tmp_path, monkeypatch, options):
    """With Python itself in place of CUDA's graphs: what is replayed sees no tensors but those it was recorded with."""
    assert run(tmp_path / "plain", *options, iterations=10) == 0
    recorded = []

    def capture(function):
        results = {}
        recorded.append(function)
        return lambda: results.update(function()), results

    monkeypatch.setattr(graphs, "capture", capture)
    monkeypatch.setattr(graphs, "on_side_stream", lambda function: function())
    begin = loop.Training.__init__

    def graphed(self, *arguments, **more):
        begin(self, *arguments, **more)
        self.updates = graphs.GraphedUpdates(self.updates)

    monkeypatch.setattr(loop.Training, "__init__", graphed)
    assert run(tmp_path / "graphed", *options, iterations=10) == 0
    assert len(recorded) == (3 if options else 2)
    assert_same_weights(weights(tmp_path / "graphed", 10), weights(tmp_path / "plain", 10))


@pytest.mark.gpu
def test_cuda_graphs_learn_what_plain_updates_learn(tmp_path):
    options = ["--device", "cuda", "--r1-every", "2"]
    assert run(tmp_path / "plain", *options, iterations=10) == 0
    assert run(tmp_path / "graphed", *options, "--cuda-graphs", iterations=10) == 0
    plain, graphed = weights(tmp_path / "plain", 10), weights(tmp_path / "graphed", 10)
    for name in plain:
        if name.startswith(("generator.", "discriminator.")):
            torch.testing.assert_close(graphed[name], plain[name], rtol=1e-3, atol=1e-4)


def test_dry_run_counts_parameters_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert command.main(["--dataset", "rotmnist", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert '"iterations": 20000' in out and '"lr_d": 0.0004' in out
    assert not list(tmp_path.iterdir())


def test_auxiliary_rotations_need_a_discriminator_that_sees_them(tmp_path, capsys):
    assert run(tmp_path / "run", "--augment", "rotations") == 1
    assert "auxiliary_rotations: expected a discriminator that can see them" in capsys.readouterr().err


def test_bcr_warns_where_it_teaches_nothing(tmp_path, capsys):
    assert run(tmp_path / "run", "--augment", "bcr", iterations=1) == 0
    assert "bCR over p4 has no effect" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch-size", "0"], "batch_size: expected more than 0, got 0"),
        (["--accumulate", "3"], "accumulate: 3 parts do not divide a batch of 8"),
        (["--ema", "1"], "ema: expected a number from 0 to below 1"),
        (["--gradient-penalty", "10"], "gradient_penalty: only for wgan and alpha"),
        (["--data-fraction", "2"], "data_fraction: expected at most 1"),
        (["--eval-metrics", "pr"], "eval_metrics: expected some of fid, kid, pr, the first of fid, kid, got pr"),
        (["--eval-every", "1", "--eval-samples", "1"], "eval_samples: fid needs at least 2 images, got 1"),
        (["--eval-every", "1", "--eval-samples", "1", "--eval-metrics", "kid"], "eval_samples: kid needs at least 2"),
        (["--eval-every", "1", "--eval-samples", "3", "--eval-metrics", "fid,pr"], "eval_samples: pr needs at least 4"),
        (["--bcr-real", "1"], "augment: weights of bcr were given"),
        (["--cuda-graphs", "--amp", "fp16"], "cuda_graphs: not with --amp fp16"),
        (["--cuda-graphs"], "cuda_graphs: expected one process on a GPU, got 1 on cpu"),
    ],
)
def test_bad_options(tmp_path, capsys, arguments, message):
    assert run(tmp_path / "run", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["GCNN_CACHE", "XDG_CACHE_HOME"])
def test_a_cache_that_is_a_file_is_named(tmp_path, monkeypatch, capsys, name):
    monkeypatch.delenv("GCNN_CACHE", raising=False)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(name, str(tmp_path / "file"))
    assert run(tmp_path / "run", "--eval-every", "1", "--eval-samples", "4") == 1
    assert "GCNN_CACHE: the cache" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00binary", b'{"iteration": 1\n{"iteration": 2}\n'])
def test_a_damaged_metrics_file_is_named_and_kept(copy, capsys, damage):
    file = copy / "metrics.jsonl"
    file.write_bytes(damage)
    assert run(copy, iterations=8) == 1
    assert "metrics.jsonl, line 1 is damaged" in capsys.readouterr().err
    assert file.read_bytes() == damage
