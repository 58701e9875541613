"""The classifiers, their training on small data, and the comparison of what was trained."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from gan import data
from gan.classifiers import store, sweep
from gan.classifiers.build import NAMES, build_classifier, count_parameters
from gan.classifiers.normalised import pixel_moments
from gan.classifiers.rotations import random_rotations, rotate
from gan.classifiers.stability import mean_swing, rotated, scores_under_a_turn
from gan.classifiers.training import scores, train_classifier
from gan.commands import classify, compare
from gan.data.imageset import ImageSet

#: turns under which the logits do not change
INVARIANT = {"p4cnn": 1, "p4cnn-pooled": 1, "se2cnn-2": 2, "se2cnn-4": 1, "se2cnn-8": 1, "se2cnn-16": 1}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GCNN_CACHE", str(tmp_path / "cache"))


def random_images(count=3, channels=1, resolution=28, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, channels, resolution, resolution), dtype=torch.uint8, generator=g)


# --- networks


def at_work(name, *shape):
    """A classifier in float64 and evaluation mode whose norms do something: they have seen other images."""
    torch.manual_seed(0)
    network = build_classifier(name, *shape).double()
    with torch.no_grad():
        network(random_images(16, shape[1], shape[0], seed=1))
    return network.eval()


@pytest.mark.parametrize(
    ("resolution", "channels", "classes"), [(28, 1, 10), (16, 1, 10), (13, 1, 3), (50, 3, 2), (96, 3, 2)]
)
@pytest.mark.parametrize("name", NAMES)
def test_logits_do_not_change_under_the_turns_of_the_group(name, resolution, channels, classes):
    network = at_work(name, resolution, channels, classes)
    images = random_images(3, channels, resolution)
    with torch.no_grad():
        logits = network(images)
        changes = [(network(images.rot90(k, (2, 3))) - logits).norm() / logits.norm() for k in (1, 2)]
    assert logits.shape == (3, classes)
    for turns, change in zip((1, 2), changes, strict=True):
        if name in INVARIANT and turns % INVARIANT[name] == 0:
            assert change < 1e-12
        else:
            assert change > 1e-4


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("z2cnn", 21_750), ("p4cnn", 24_680), ("p4cnn-pooled", 21_750),
        ("se2cnn-1", 25_384), ("se2cnn-2", 26_189), ("se2cnn-4", 24_943), ("se2cnn-8", 25_213), ("se2cnn-16", 25_627),
    ],
)  # fmt: skip
def test_numbers_of_parameters(name, expected):
    """Against the gradients of a forward pass in float64: a number that is not counted has none."""
    network = build_classifier(name, 28, 1, 10).double().train()
    network(random_images(8)).square().sum().backward()
    used = sum((parameter.grad != 0).sum().item() for parameter in network.parameters())
    assert count_parameters(network) == expected
    assert used == pytest.approx(expected, abs=0.02 * expected)  # ReLU and maximum may stop a few
    assert used <= expected


def test_classifiers_refuse_what_they_cannot_take():
    with pytest.raises(ValueError, match=r"model: expected one of z2cnn, p4cnn, .*, got 'se2cnn-3'"):
        build_classifier("se2cnn-3", 28, 1, 10)
    with pytest.raises(ValueError, match=r"resolution: expected at least 12, got 11"):
        build_classifier("p4cnn", 11, 1, 10)
    with pytest.raises(ValueError, match=r"resolution: expected at least 9, got 8"):
        build_classifier("se2cnn-4", 8, 1, 10)


def test_pixels_are_normalised_per_channel():
    images = np.random.default_rng(0).integers(0, 256, (7, 5, 5, 3), dtype=np.uint8)
    images[..., 1] = images[..., 1] // 4 + 10
    images[..., 2] = 9
    mean, std = pixel_moments(images)
    pixels = images.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(std, [*pixels.std(0)[:2], 1], rtol=1e-12)
    network = build_classifier("z2cnn", 12, 3, 2, mean, std).double()
    normal = network.normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
    torch.testing.assert_close(normal.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-5)
    assert normal[:, :2].std((0, 2, 3), correction=0).sub(1).abs().max() < 1e-5


# --- rotations


def test_rotation_is_counter_clockwise_and_exact_at_quarter_turns():
    images = random_images(4, channels=3)
    angles = torch.arange(4) * (math.pi / 2)
    expected = torch.stack([image.rot90(k, (1, 2)) for k, image in enumerate(images)]).float()
    torch.testing.assert_close(rotate(images, angles), expected, rtol=0, atol=0.01)


def test_rotation_agrees_with_the_one_of_the_data():
    """gan.data.rotate is numpy, zero outside; far from the edge both are the same bilinear resampling."""
    from gan.data import rotate as numpy_rotate

    images = random_images(5)
    angles = torch.tensor([0.3, 1.2, -2.0, 3.0, 5.5])
    theirs = numpy_rotate.rotate(images[:, 0].numpy(), angles.numpy(), size=28)
    middle = (slice(None), slice(6, 22), slice(6, 22))
    np.testing.assert_allclose(rotate(images, angles)[:, 0].numpy()[middle], theirs[middle], atol=0.02)
    assert rotate(torch.full((1, 1, 9, 9), 200), torch.tensor([0.7])).min() > 199.9  # no black corners


def test_random_rotations_are_reproducible_and_differ():
    image = random_images(1).expand(6, -1, -1, -1)
    first, again, other = (random_rotations(image, seed, batch) for seed, batch in ((0, 0), (0, 0), (0, 1)))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len({picture.numpy().tobytes() for picture in first}) == 6


# --- training


def striped(count, seed, classes=2):
    """Stripes 2 or 4 pixels wide, at any angle: what they are does not depend on the angle."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    y, x = np.mgrid[:16, :16] - 7.5
    angles, phases = rng.uniform(0, np.pi, (count, 1, 1)), rng.uniform(0, 2 * np.pi, (count, 1, 1))
    waves = np.sin(2 * np.pi / (4 + 4 * labels[:, None, None]) * (np.cos(angles) * y + np.sin(angles) * x) + phases)
    pixels = np.clip(127 + 60 * waves + rng.normal(0, 5, waves.shape), 0, 255).astype(np.uint8)
    split = "train" if seed == 0 else "validation"
    names = tuple(f"width {2 + 2 * label}" for label in range(classes))
    return ImageSet("stripes", split, pixels[..., None], labels.astype(np.int64), names, f"stripes-{seed}")


@pytest.mark.parametrize("name", ["p4cnn", "se2cnn-8"])
def test_training_learns_and_is_reproducible(name):
    train, validation = striped(256, 0), striped(200, 1)

    def run(augment):
        torch.manual_seed(0)
        model = build_classifier(name, 16, 1, 2, *pixel_moments(train.images))
        options = {"epochs": 8, "seed": 0, "device": "cpu", "log": lambda line: None, "augment": augment}
        return train_classifier(model, train, validation, **options)

    plain, augmented, again = run(False), run(True), run(True)
    for history in (plain, augmented):
        assert history[-1]["error"] < 0.1 and history[-1]["f1"] > 0.9  # chance is 0.5
        assert history[-1]["loss"] < history[0]["loss"]
    losses = [[record["loss"] for record in history] for history in (plain, augmented, again)]
    assert losses[1] == losses[2] != losses[0]


def test_the_error_is_measured_ten_times_and_at_the_end_on_everything(monkeypatch):
    monkeypatch.setattr("gan.classifiers.training.SOME_IMAGES", 20)
    model = build_classifier("z2cnn", 16, 1, 2)
    options = {"epochs": 25, "seed": 0, "device": "cpu", "log": lambda line: None}
    history = train_classifier(model, striped(16, 0), striped(60, 1), **options)
    measured = {record["epoch"]: record["images"] for record in history if "error" in record}
    assert list(measured) == [3, 5, 8, 10, 13, 15, 18, 20, 23, 25]
    assert list(measured.values()) == [20] * 9 + [60]


def test_scores_against_scikit_learn():
    from sklearn.metrics import f1_score

    images = striped(300, 1)
    truth, chosen = images.labels, np.random.default_rng(0).permutation(images.labels)
    position = iter(range(0, 300, 128))

    def model(pixels):
        start = next(position)
        return torch.nn.functional.one_hot(torch.from_numpy(chosen[start : start + len(pixels)]), 2)

    model.eval = lambda: None
    found = scores(model, images, range(300), "cpu")
    assert found["error"] == pytest.approx(np.mean(truth != chosen))
    assert found["f1"] == pytest.approx(f1_score(truth, chosen))


# --- stability


def test_a_turn_begins_and_ends_with_the_image():
    image = random_images(1, channels=3)[0]
    poses = rotated(image)
    assert poses.shape == (49, 3, 28, 28)
    for pose, turns in ((0, 0), (12, 1), (24, 2), (48, 0)):
        torch.testing.assert_close(poses[pose], image.rot90(turns, (1, 2)).float(), rtol=0, atol=0.05)


def test_scores_under_a_turn_repeat_every_quarter_for_p4_only():
    images = random_images(3)
    swings = {}
    for name in ("z2cnn", "p4cnn"):
        network = at_work(name, 28, 1, 10)
        score = scores_under_a_turn(network, images[0], 3)
        assert score.shape == (49,) and ((score > 0) & (score < 1)).all()
        swings[name] = np.ptp(score[::12])
        expected = np.mean([np.ptp(scores_under_a_turn(network, image, 3)) for image in images])
        assert mean_swing(network, images, [3, 3, 3]) == pytest.approx(expected)
    assert swings["p4cnn"] < 1e-4 < swings["z2cnn"]


# --- commands


@pytest.fixture
def tissue(tmp_path):
    """A folder of colour images of two classes, of two sizes, in the layout of ``--dataset folder``."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("validation", 12)):
        for label, name in enumerate(("mitotic", "normal")):
            for number in range(count):
                pixels = rng.integers(0, 120 + 100 * label, (20 + 4 * (number % 2), 24, 3), dtype=np.uint8)
                path = tmp_path / "tissue" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path / "tissue"


def run_folder(tissue, out, *options):
    """``gan.classify`` on the folder of images, for two epochs."""
    shared = ["--dataset", "folder", "--data", str(tissue), "--resolution", "20", "--epochs", "2", "--device", "cpu"]
    return classify.main([*shared, "--outdir", str(out), *options])


def test_a_sweep_over_a_folder_resumes_and_is_compared(tissue, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_folder(tissue, out, "--model", "z2cnn", "--seeds", "0", "1") == 0
    assert "26,862" not in (printed := capsys.readouterr().out) and "F1" in printed and "±" in printed
    half = ["--model", "se2cnn", "--orientations", "4", "--data-fraction", "0.5", "--augment"]
    assert run_folder(tissue, out, *half) == 0
    assert run_folder(tissue, out, "--model", "se2cnn", "--orientations", "1") == 0
    names = [
        "se2cnn-1-100%-2epochs-seed0",
        "se2cnn-4-50%-augmented-2epochs-seed0",
        *(f"z2cnn-100%-2epochs-seed{s}" for s in (0, 1)),
    ]
    assert sorted(path.stem for path in out.glob("*.json")) == [f"folder-{name}" for name in names]
    weights = {path: path.stat().st_mtime_ns for path in out.iterdir()}

    capsys.readouterr()
    assert run_folder(tissue, out, "--model", "z2cnn", "--seeds", "0", "1") == 0
    assert capsys.readouterr().out.count("is there") == 2
    assert weights == {path: path.stat().st_mtime_ns for path in out.iterdir()}

    record = json.loads((out / "folder-se2cnn-4-50%-augmented-2epochs-seed0.json").read_text())["description"]
    assert record["data"] == data.load("folder", tissue, resolution=20, fraction=0.5).fingerprint
    network = store.load_classifier(out / "folder-se2cnn-4-50%-augmented-2epochs-seed0.safetensors")
    validation = data.load("folder", tissue, split="validation", resolution=20)
    assert scores(network, validation, range(24), "cpu") == {"error": record["error"], "f1": record["f1"]}

    pictures = ["--out", str(tmp_path / "pictures"), "--image", "2"]
    assert compare.main(["--runs", str(out), "--data", str(tissue), *pictures]) == 0
    lines = (tmp_path / "pictures" / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| se2cnn-1", "| se2cnn-4, augmented", "| z2cnn"]
    errors = [100 * sweep.read(out / f"folder-{name}.json").error for name in names[2:]]
    assert sweep.spread(errors) in lines[4]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == [
        "data.png", "orientations.png", "stability.png", "table.md",
    ]  # fmt: skip


def test_spread_is_the_standard_deviation_of_a_sample():
    values = [1.0, 2.0, 6.0]
    assert sweep.spread(values) == f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
    assert sweep.spread([2.25], 1) == "2.2"


def test_results_of_other_images_are_refused(tissue, tmp_path, capsys):
    out = tmp_path / "out"
    assert run_folder(tissue, out) == 0
    next((tissue / "train" / "normal").iterdir()).unlink()
    assert run_folder(tissue, out) == 1
    assert "was trained on other images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--orientations", "4"], "orientations: only se2cnn has them, not p4cnn"),
        (["--epochs", "0"], "epochs: expected at least 1, got 0"),
        (["--seeds", "1", "1"], "seeds: expected different numbers from 0 on, got [1, 1]"),
        (["--data-fraction", "2"], "fraction: expected a number in (0, 1], got 2.0"),
    ],
)
def test_classify_names_the_bad_argument(arguments, message, capsys):
    assert classify.main(["--dataset", "digits", "--device", "cpu", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_classify_wants_validation_images_and_two_classes(tissue, tmp_path, capsys):
    (tissue / "validation").rename(tmp_path / "elsewhere")
    assert run_folder(tissue, tmp_path / "out") == 1
    assert "folder has no validation images here" in capsys.readouterr().err
    (tmp_path / "elsewhere").rename(tissue / "validation")
    for split in ("train", "validation"):
        for path in (tissue / split / "mitotic").iterdir():
            path.unlink()
        (tissue / split / "mitotic").rmdir()
    assert run_folder(tissue, tmp_path / "out") == 1
    assert "expected two classes or more, found normal" in capsys.readouterr().err


def test_compare_says_what_is_missing(tmp_path, capsys):
    assert compare.main(["--runs", str(tmp_path)]) == 1
    assert "runs: expected results of gan.classify on one data set" in capsys.readouterr().err
    (tmp_path / "a.json").write_text("{}")
    assert compare.main(["--runs", str(tmp_path)]) == 1
    assert "a.json is not the result of a trained classifier" in capsys.readouterr().err
