"""What is done with a run afterwards: samples and metrics."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image

from gan import data
from gan.classifiers import store
from gan.classifiers.planar import PlanarClassifier
from gan.commands import evaluate, export, sample
from gan.commands.train import main as train
from gan.runs import load_generator
from gan.runs.sampling import along, slerp


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two iterations, and a classifier with random weights in the cache."""
    folder = tmp_path_factory.mktemp("tools")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GCNN_CACHE", str(folder / "cache"))
        torch.manual_seed(0)
        fingerprint = data.load("digits").fingerprint
        description = store.Description("p4cnn", 16, 1, 10, "digits", fingerprint, epochs=0, seed=0, error=0.9)
        store.store(PlanarClassifier("p4cnn", 16, 1, 10), description, [])
        options = ["--width", "0.1", "--batch-size", "8", "--iterations", "2", "--device", "cpu"]
        assert train([*options, "--eval-samples", "100", "--outdir", str(folder / "run")]) == 0
        yield folder / "run"


def test_metrics_of_a_run(run, capsys):
    capsys.readouterr()
    arguments = ["--run", str(run), "--metrics", "fid,kid,pr", "--samples", "100", "--device", "cpu", "--real-data"]
    assert evaluate.main(arguments) == 0
    results = json.loads(capsys.readouterr().out)
    name = next(key for key in results if key.startswith("fid-100-p4cnn-"))
    assert {name.replace("fid", other) for other in ("kid", "kid-std", "precision", "recall")} <= results.keys()
    parts = results["training images"]
    assert [next(iter(part)).split("-")[:3] for part in parts.values()] == [
        ["fid", count, "p4cnn"] for count in ("1150", "3794", "7587", "11496")
    ]
    assert json.loads((run / "evaluation-00000002.json").read_text()) == results
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    at_the_end = [record[name] for record in records if name in record][-1]
    assert results[name] == pytest.approx(at_the_end, rel=1e-9)


def test_real_data_without_a_run(run, capsys):
    capsys.readouterr()
    assert evaluate.main(["--real-data", "--dataset", "digits", "--device", "cpu"]) == 0
    results = json.loads(capsys.readouterr().out)
    assert results["real images"] == 2880
    assert list(results["training images"]) == ["10%", "33%", "66%", "100%"]


@pytest.mark.parametrize(
    ("options", "cells"),
    [
        (["--seeds", "0-4"], (10, 5)),
        (["--seeds", "3,7", "--classes", "1,5,9", "--truncation", "0.75"], (3, 2)),
        (["--seeds", "0-2", "--classes", "4", "--interpolate", "z", "--steps", "3"], (1, 7)),
        (["--seeds", "0,1", "--classes", "0-2", "--interpolate", "class", "--steps", "2", "--gif"], (2, 5)),
    ],
)
def test_sheets(run, tmp_path, options, cells):
    out = tmp_path / "new" / "sheet.png"
    assert sample.main(["--run", str(run), "--out", str(out), *options]) == 0
    rows, columns = cells
    width, height = Image.open(out).size
    assert height * (17 * columns + 1) == width * (17 * rows + 1)
    assert out.with_suffix(".gif").exists() == ("--gif" in options)


def test_exported_generator(run, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network = load_generator(run).network
    z, labels = torch.randn(3, network.latent_dim), torch.tensor([7, 0, 7])
    for name in ("generator.onnx", "generator.pt2"):
        assert export.main(["--run", str(run), "--out", str(tmp_path / "new" / name)]) == 0
        assert "labels int64 [batch] -> images float32 [batch, 1, 16, 16]" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(tmp_path / "new" / "generator.onnx", providers=["CPUExecutionProvider"])
    (images,) = session.run(None, {"z": z.numpy(), "labels": labels.numpy()})
    program = torch.export.load(tmp_path / "new" / "generator.pt2").module()
    for found in (torch.from_numpy(images), program(z=z, labels=labels)):
        torch.testing.assert_close(found, network(z, labels), rtol=1e-5, atol=1e-5)


def test_an_export_that_differs_is_not_written(run, tmp_path, capsys, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr("gan.runs.export.TOLERANCE", 0.0)
    assert export.main(["--run", str(run), "--out", str(tmp_path / "generator.onnx")]) == 1
    assert "onnxruntime's images differ from the generator's by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_that_did_not_know_an_option_yet(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    saved = json.loads((run / "options.json").read_text())
    del saved["options"]["eval_metrics"]
    (tmp_path / "run" / "options.json").write_text(json.dumps(saved))
    assert load_generator(tmp_path / "run").options == load_generator(run).options


def test_interpolation_on_the_sphere():
    start, end = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 2.0])
    path = along(torch.stack([start, end]), 2, slerp)
    assert torch.allclose(path, torch.tensor([[2.0, 0.0], [2**0.5, 2**0.5], [0.0, 2.0]]), atol=1e-6)


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        (sample, ["--classes", "3,12"], "classes: expected numbers below 10, got 12"),
        (sample, ["--run", "nowhere"], "nowhere holds no run"),
        (
            sample,
            ["--seeds", "4", "--interpolate", "z"],
            "seeds: expected two or more to go from one to",
        ),
        (sample, ["--classes", "4", "--interpolate", "class"], "classes: expected two or more to go from one to"),
        (sample, ["--truncation", "0"], "truncation: expected more than 0, got 0.0"),
        (sample, ["--steps", "1"], "steps: expected at least 2, got 1"),
        (sample, ["--out", "sheet.jpg"], "out: expected a file name that ends in .png, got sheet.jpg"),
        (evaluate, ["--run", "nowhere"], "nowhere holds no run"),
        (evaluate, ["--metrics", "fid,is"], "metrics: expected some of fid, kid, pr, got is"),
        (evaluate, ["--metrics", "kid", "--samples", "1"], "samples: kid needs at least 2 images, got 1"),
        (export, ["--run", "nowhere"], "nowhere holds no run"),
        (export, ["--out", "generator.bin"], "out: expected a file name that ends in .onnx or .pt2, got generator.bin"),
    ],
)
def test_messages(run, capsys, tool, arguments, message):
    assert tool.main(["--run", str(run), *arguments]) == 1
    assert message in capsys.readouterr().err
