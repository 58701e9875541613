"""Metrics by features of the user's own modules."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import scipy.linalg
import torch

from gan import data
from gan.commands import evaluate
from gan.common.distributed import ALONE_ON_CPU
from gan.metrics.evaluation import Evaluation
from gan.metrics.own_features import own_extractor

SOURCE = """
import torch

SEED = 0

class Features(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(48, 5)
        self.dropout = torch.nn.Dropout()
        torch.manual_seed(SEED)
        torch.nn.init.normal_(self.layer.weight)
        torch.nn.init.ones_(self.layer.bias)

    def forward(self, images):
        return self.dropout(self.layer(torch.nn.functional.adaptive_avg_pool2d(images, 4).flatten(1)))

def build():
    return Features()

def number():
    return 7

def flat():
    return torch.nn.Flatten(0)

def broken():
    return torch.nn.Linear(3, 4)

def infinite():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Threshold(2.0, float("inf")))

def several():
    return torch.nn.LSTM(16, 2)

def failing():
    raise RuntimeError("no weights")
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A module of the user's that can be imported, and files made of it."""
    monkeypatch.setenv("GCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(SOURCE)
    import mine

    yield mine
    sys.modules.pop("mine", None)


def saved(mine, folder, kind):
    module = mine.build().eval()
    example = torch.rand(3, 3, 16, 16)
    if kind == "pt2":
        batch = torch.export.Dim("batch")
        torch.export.save(torch.export.export(module, (example,), dynamic_shapes=({0: batch},)), folder / "mine.pt2")
    else:
        torch.jit.script(module).save(folder / "mine.pt")
    return folder / f"mine.{kind}"


def by_hand(images):
    """The module's formula in numpy, of uint8 ``[B, 16, 16, 1]``."""
    torch.manual_seed(0)
    weight = torch.nn.init.normal_(torch.empty(5, 48)).double().numpy()
    pooled = images.astype(np.float64).reshape(-1, 4, 4, 4, 4).mean((2, 4)).reshape(-1, 16) / 255
    return np.tile(pooled, 3) @ weight.T + 1


def test_the_frechet_distance_through_a_module_is_the_direct_one(mine):
    validation, train = data.load("digits", split="validation"), data.load("digits")
    extractor = own_extractor("mine:build", "cpu")
    assert extractor.name.startswith("mine.build-") and len(extractor.name) == len("mine.build-") + 8
    evaluation = Evaluation(validation, extractor, samples=100, seed=0, world=ALONE_ON_CPU)
    ((name, found),) = evaluation.of_images(train).items()
    assert name == f"fid-{len(train)}-{extractor.name}"
    a, b = by_hand(train.images), by_hand(validation.images)
    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(0), np.cov(x, rowvar=False)) for x in (a, b))
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["pt", "pt2"])
def test_files_give_the_features_of_the_module(mine, tmp_path, kind):
    images = torch.from_numpy(data.load("digits", split="validation").images[:7])
    extractor = own_extractor(str(saved(mine, tmp_path, kind)), "cpu")
    assert extractor.name.startswith("mine-")
    for count in (7, 2):
        expected = torch.from_numpy(by_hand(images[:count].numpy()))
        torch.testing.assert_close(extractor(images[:count]), expected, rtol=1e-5, atol=1e-5)


def test_the_name_tells_weights_and_code_apart(mine, tmp_path):
    def name():
        return own_extractor("mine:build", "cpu").name

    first = name()
    assert name() == first
    mine.SEED = 1
    assert name() != first
    mine.SEED = 0
    assert name() == first
    (tmp_path / "mine.py").write_text(SOURCE + "\n# preprocessing has changed\n")
    assert name() != first


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.pt", "features: nowhere.pt: no such file; expected MODULE:FUNCTION or a file of TorchScript or .pt2"),
        ("nowhere:build", "features: nowhere:build: ModuleNotFoundError"),
        ("mine:nothing", "features: mine:nothing: AttributeError"),
        ("mine:failing", "features: mine:failing: RuntimeError: no weights"),
        ("mine:number", r"features: mine:number\(\) gave int, expected a torch.nn.Module"),
        ("mine:flat", r"features: mine:flat: expected a tensor \[2, F\], got \[1536\]"),
        ("mine:broken", r"features: mine:broken failed on float32 images \[2, 3, 16, 16\] in \[0, 1\]"),
        ("mine:infinite", "features: mine:infinite gave NaN or infinity"),
        ("damaged.pt", "does not hold TorchScript"),
        ("damaged.pt2", "does not hold an exported program"),
    ],
)
def test_messages(mine, tmp_path, source, message):
    for file in ("damaged.pt", "damaged.pt2"):
        (tmp_path / file).write_bytes(b"not a network")
    source = str(tmp_path / source) if source.startswith("damaged") else source
    with pytest.raises(ValueError, match=message):
        own_extractor(source, "cpu")(torch.zeros(2, 16, 16, 1, dtype=torch.uint8))


def test_anything_but_a_tensor_is_refused(mine):
    class Pair(torch.nn.Module):
        def forward(self, images):
            return images, images

    mine.pair = Pair
    with pytest.raises(ValueError, match="features: mine:pair: expected a tensor, got tuple"):
        own_extractor("mine:pair", "cpu")(torch.zeros(2, 16, 16, 1, dtype=torch.uint8))


def test_the_command(mine, capsys):
    arguments = ["--real-data", "--dataset", "digits", "--device", "cpu", "--features", "mine:build"]
    assert evaluate.main(arguments) == 0
    shares = json.loads(capsys.readouterr().out)["training images"]
    assert all(next(iter(share)).split("-")[2] == "mine.build" for share in shares.values())
    assert evaluate.main([*arguments[:-1], "mine:nothing"]) == 1
    assert "error: features: mine:nothing" in capsys.readouterr().err
