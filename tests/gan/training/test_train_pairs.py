"""gan.train on pairs of maps and photographs, and what is done with such a run afterwards."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

from gan import data
from gan.commands import evaluate, grid, sample
from gan.commands import train as command
from gan.common.distributed import World
from gan.data import to_tensor, to_uint8
from gan.metrics.distances import kernel_distance
from gan.metrics.extractors import Extractor
from gan.networks import build_translator
from gan.options import resolve
from gan.papers.published import TABLES
from gan.papers.runs import plan
from gan.runs import evaluation, load_generator
from gan.training.loop import ALONE_ON_CPU, Training
from gan.training.translation import Translation

TINY = [
    "--dataset", "maps", "--width", "0.02", "--checkpoint-every", "1", "--eval-every", "0", "--sample-every", "100",
    "--log-every", "1", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """maps.tar.gz with the layout of the original: photograph left, map right, 3 training and 2 validation pairs."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 2)):
        (root / "maps" / split).mkdir(parents=True)
        for i in range(1, count + 1):
            squares = np.repeat(np.repeat(rng.integers(0, 256, (6, 12, 3), np.uint8), 10, 0), 10, 1)
            Image.fromarray(squares).save(root / "maps" / split / f"{i}.jpg", quality=95)
    with tarfile.open(root / "maps.tar.gz", "w:gz") as archive:
        archive.add(root / "maps", "maps")
    shutil.rmtree(root / "maps")
    return root


def run(root, outdir, *more, iterations=4):
    arguments = [*TINY, "--data", str(root), "--outdir", str(outdir), "--iterations", str(iterations), *more]
    return command.main(arguments)


def weights(outdir, iteration):
    return load_file(outdir / "checkpoints" / f"iteration-{iteration:08d}.safetensors")


@pytest.fixture(scope="module")
def finished(root, tmp_path_factory):
    outdir = tmp_path_factory.mktemp("finished") / "run"
    assert run(root, outdir) == 0
    return outdir


def test_a_run_leaves_its_files(finished):
    records = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [record["iteration"] for record in records] == [1, 2, 3, 4]
    assert all({"loss_d", "loss_g", "l1"} <= record.keys() for record in records)
    assert (finished / "curves.png").stat().st_size > 0
    with Image.open(finished / "samples" / "real.png") as reals:
        assert reals.size == (10 * 513 + 1, 257 + 1)
    with Image.open(finished / "samples" / "iteration-00000004.png") as sheet:
        assert sheet.size == (3 * 257 + 1, 2 * 257 + 1)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_resumed_run_is_the_uninterrupted_one(root, finished, tmp_path, stop):
    outdir = tmp_path / "run"
    assert run(root, outdir, iterations=stop) == 0
    assert run(root, outdir) == 0
    resumed, expected = weights(outdir, 4), weights(finished, 4)
    assert resumed.keys() == expected.keys()
    assert not [name for name in expected if not torch.equal(resumed[name], expected[name])]


@pytest.mark.parametrize("generator", ["p1", "p4"])
@pytest.mark.parametrize("discriminator", ["p1", "p4"])
def test_every_cell_with_precision_and_accumulation(root, tmp_path, generator, discriminator):
    groups = ["--generator-group", generator, "--discriminator-group", discriminator]
    options = ["--batch-size", "2", "--accumulate", "2", "--amp", "bf16", "--d-updates", "2"]
    assert run(root, tmp_path / "run", *groups, *options, iterations=1) == 0


def training(root, **given):
    options = resolve({"dataset": "maps", "width": 0.02, "data": str(root), "outdir": "-", **given})
    return Training(options, data.load("maps", root), None, None, ALONE_ON_CPU)


def test_the_updates_are_those_of_pix2pix(root):
    """Gradients of both networks against the losses of Isola et al. written down, on the batch that training draws."""
    run, gradients = training(root), {}
    state = run.state
    for name, optimizer in state.optimizers.items():
        gradients_of(state.networks[name], optimizer, gradients, name)
    losses = dict(zip(("loss_d", "loss_g", "l1"), run.iterate().tolist(), strict=True))

    batch = run.task.batch(0)
    maps, photographs = (to_tensor(pixels) for pixels in batch)
    for network in state.networks.values():
        network.requires_grad_(True)
    translations = state.generator(maps)
    real = state.discriminator(maps, photographs).sigmoid()
    fake = state.discriminator(maps, translations.detach()).sigmoid()
    loss_d = -(real.log().mean() + (1 - fake).log().mean()) / 2
    adversarial = -state.discriminator(maps, translations).sigmoid().log().mean()
    l1 = (translations - photographs).abs().mean()
    assert losses == pytest.approx({"loss_d": loss_d.item(), "loss_g": adversarial.item(), "l1": l1.item()}, rel=1e-4)
    for name, loss in (("discriminator", loss_d), ("generator", adversarial + 100 * l1)):
        expected = torch.autograd.grad(loss, list(state.networks[name].parameters()))
        one, other = (torch.cat([g.flatten() for g in some]) for some in (gradients[name], expected))
        assert (one - other).norm() < 1e-4 * other.norm()


def gradients_of(network, optimizer, gradients, name):
    """Make the optimizer keep the gradients of its first step and leave the weights alone."""

    def step(closure=None):
        gradients[name] = [parameter.grad.clone() for parameter in network.parameters()]

    optimizer.step = step


def test_both_networks_see_the_same_pairs_every_pair_once_per_epoch(root, monkeypatch):
    run, seen = training(root, seed=1), []
    batch = run.task.batch
    monkeypatch.setattr(run.task, "batch", lambda number: seen.append(number) or batch(number))
    for run.iteration in range(2):
        run.iterate()
    assert seen == [0, 0, 1, 1]
    photographs = {tuple(run.task.order[number].tolist()) for number in range(3)}
    assert photographs == {(0,), (1,), (2,)}
    assert torch.equal(batch(1).maps, batch(1).maps) and not torch.equal(batch(1).maps, batch(4).maps)


def test_ranks_cut_the_pairs_as_one_process_does(root):
    run = training(root, batch_size=4)
    whole = run.task.batch(5)
    for rank in range(2):
        world = World(rank, 2, torch.device("cpu"))
        part = Translation(run.options, run.train_set, run.state, world).batch(5)
        for mine, all_of_them in zip(part, whole, strict=True):
            assert torch.equal(mine, all_of_them[2 * rank : 2 * rank + 2])


def test_images_are_translated_each_by_its_own_moments():
    torch.manual_seed(0)
    translator = build_translator("maps", "p4", width=0.02).eval()
    images = torch.rand(2, 3, 256, 256) * 2 - 1
    alone = translator.translate(images[1:])
    assert torch.equal(translator.translate(images)[1:], alone)
    assert not torch.allclose(translator(images)[1:], alone, atol=1e-4)


def features(images):
    """Means of 16 tiles and channels, float64 ``[B, 48]``, of uint8 ``[B, C, H, W]``."""
    return (F.adaptive_avg_pool2d(images.double(), 4).flatten(1) / 255,)


@pytest.fixture
def tiles(monkeypatch, tmp_path):
    """Tiles' means in place of Inception, whose weights are not here."""
    monkeypatch.setenv("GCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(evaluation, "official_inception", lambda: "-")
    monkeypatch.setattr(evaluation, "inception_extractor", lambda path, device: Extractor("tiles", features))


def test_the_kernel_distance_of_a_run(root, tmp_path, tiles, capsys):
    outdir = tmp_path / "run"
    assert run(root, outdir, "--eval-every", "1", iterations=2) == 0
    records = [json.loads(line) for line in (outdir / "metrics.jsonl").read_text().splitlines()]
    distances = {record["iteration"]: record["kid-2-tiles"] for record in records if "kid-2-tiles" in record}
    assert list(distances) == [0, 1, 2]
    validation = data.load("maps", root, split="validation")
    maps, photographs = validation.batch([0, 1])
    for iteration in (1, 2):
        translator = build_translator("maps", "p4", width=0.02)
        state = weights(outdir, iteration)
        translator.load_state_dict({k[8:]: v for k, v in state.items() if k.startswith("average.")})
        translated = to_uint8(torch.cat([translator(image.unsqueeze(0)) for image in to_tensor(maps)]).detach())
        pixels = [features(images.permute(0, 3, 1, 2))[0] for images in (translated, photographs)]
        assert distances[iteration] == pytest.approx(kernel_distance(*pixels)[0], rel=1e-6)
        saved = json.loads((outdir / "checkpoints" / f"iteration-{iteration:08d}.json").read_text())
        assert saved["distance"] == distances[iteration] and saved["metric"] == "kid-2-tiles"
    assert load_generator(outdir, "best").iteration == min((1, 2), key=distances.get)
    capsys.readouterr()
    assert evaluate.main(["--run", str(outdir), "--metrics", "kid", "--checkpoint", "latest", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["kid-2-tiles"] == pytest.approx(distances[2], rel=1e-9)
    assert evaluate.main(["--run", str(outdir), "--samples", "3", "--device", "cpu"]) == 1
    assert "samples: expected at most the 2 pairs, got 3" in capsys.readouterr().err


def test_translations_of_a_run(root, finished, tmp_path):
    out = tmp_path / "sheet.png"
    assert sample.main(["--run", str(finished), "--pairs", "1,0", "--out", str(out)]) == 0
    with Image.open(out) as sheet:
        tiles = np.asarray(sheet)[1:].reshape(2, 257, -1, 3)[:, :-1, 1:].reshape(2, 256, 3, 257, 3)[:, :, :, :-1]
    maps, photographs = data.load("maps", root, split="validation").batch([1, 0])
    np.testing.assert_array_equal(tiles[:, :, 0], maps)
    np.testing.assert_array_equal(tiles[:, :, 2], photographs)
    translator = load_generator(finished).network
    expected = to_uint8(torch.cat([translator(image.unsqueeze(0)) for image in to_tensor(maps)]))
    np.testing.assert_array_equal(tiles[:, :, 1], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "0,2"], "pairs: expected numbers below 2, got 2"),
        (["--interpolate", "z"], "interpolate: this run translates maps"),
    ],
)
def test_samples_that_cannot_be(finished, capsys, arguments, message):
    assert sample.main(["--run", str(finished), *arguments]) == 1
    assert message in capsys.readouterr().err


def test_the_grid_of_table_4(root, tmp_path, tiles):
    """Every cell's command, run in this process, which has the features, and the table of the results."""
    rest = [*TINY[2:], "--data", str(root), "--iterations", "1", "--eval-every", "1"]
    for cell in plan(TABLES["4"], "maps", ["pix2pix"], [1.0], [0]):
        assert command.main(cell.arguments(tmp_path, rest)) == 0
    assert grid.main(["--table", "4", "--outdir", str(tmp_path), "--print"]) == 0
    table = (tmp_path / "table.md").read_text()
    assert all(setting.title in table for setting in TABLES["4"].settings)
    assert "- [" not in table and "[0.0333]" in table


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--preset", "anhir"], "preset: networks of maps are for pairs of images"),
        (["--loss", "hinge"], "loss: pix2pix is for pairs of images and they for pix2pix; got hinge"),
        (["--r1", "1"], "r1: pix2pix knows only 0.0, got 1.0"),
        (["--augment", "bcr"], "augment: pix2pix knows only none, got bcr"),
        (["--generator-symmetry", "full"], "generator_symmetry: pix2pix knows only incomplete, got full"),
        (["--l1", "-1"], "l1: expected 0 or more"),
        (["--dataset", "digits", "--loss", "pix2pix"], "loss: pix2pix is for pairs of images"),
        (["--dataset", "folder", "--preset", "maps"], "got preset maps for folder"),
        (["--dataset", "digits", "--l1", "1"], "l1: digits has no pairs of images"),
    ],
)
def test_what_cannot_be_together(tmp_path, capsys, arguments, message):
    assert run(tmp_path, tmp_path / "run", *arguments) == 1
    assert message in capsys.readouterr().err
    assert not Path(tmp_path / "run").exists()
