"""Features, distances and the classifiers they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch_fidelity

from gan import data
from gan.classifiers import store
from gan.classifiers.planar import PlanarClassifier
from gan.commands import classify
from gan.common.distributed import ALONE_ON_CPU
from gan.common.noise import draw_noise
from gan.common.randomness import random_generator
from gan.metrics.batch_norm import BATCHES, estimate_statistics
from gan.metrics.distances import Gaussian, Manifold, frechet_distance, kernel_distance, precision_recall
from gan.metrics.evaluation import Evaluation, labels_like
from gan.metrics.extractors import PLANAR, classifier_extractor
from gan.metrics.features import features_of_generator, features_of_images
from gan.networks import build_generator


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GCNN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", split="validation")


@pytest.fixture
def untrained():
    """A stored classifier with random weights."""
    torch.manual_seed(0)
    model = PlanarClassifier("p4cnn", 16, 1, 10, mean=[60.0], std=[80.0])
    description = store.Description("p4cnn", 16, 1, 10, "digits", "none", epochs=0, seed=0, error=0.9)
    return store.store(model, description, [])


class Bytes(torch.utils.data.Dataset):
    """Images as torch-fidelity takes them."""

    def __init__(self, images):
        self.images = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


@pytest.mark.parametrize(("model", "count"), [("p4cnn", 24_680), ("z2cnn", 21_750)])
def test_the_classifiers_of_cohen_and_welling(model, count):
    network = PlanarClassifier(model, 28, 1, 10).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert 2 + len(network.convs) == 7
    images = torch.randint(0, 256, (3, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    logits, rotated = network(images), network(images.rot90(1, (2, 3)))
    assert logits.shape == (3, 10)
    change = (rotated - logits).norm() / logits.norm()
    assert change < 1e-5 if model == "p4cnn" else change > 1e-2


def test_classify_trains_and_stores(capsys):
    assert classify.main(["--dataset", "digits", "--epochs", "1", "--data-fraction", "0.1", "--device", "cpu"]) == 0
    assert "13,790 parameters" in capsys.readouterr().out
    train = data.load("digits", fraction=0.1)
    path = store.find_stored("p4cnn", train)
    assert store.describe(path).error < 0.8  # chance is 0.9
    assert store.find_stored("p4cnn", data.load("digits")) is None


def test_a_damaged_classifier_is_named(untrained):
    untrained.write_bytes(untrained.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"p4cnn-digits-.* is not a stored classifier"):
        store.load_classifier(untrained)


def assert_equal_metrics(generated, real, theirs):
    """Of features, and what torch-fidelity found on the images."""
    distance = frechet_distance(Gaussian.of(generated), Gaussian.of(real))
    assert distance == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert kernel_distance(generated, real)[0] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    found = precision_recall(Manifold.of(generated), Manifold.of(real))
    assert found == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-6)
    assert 0 < found[0] < 1 and 0 < found[1] < 1


def test_distances_equal_torch_fidelity_end_to_end(digits, untrained):
    some, others = digits.images[:600], digits.images[600:1500]
    theirs = torch_fidelity.calculate_metrics(
        input1=Bytes(some), input2=Bytes(others), fid=True, kid=True, prc=True, feature_extractor=PLANAR,
        feature_extractor_weights_path=str(untrained), cuda=False, cache=False, save_cpu_ram=True, verbose=False,
        kid_subset_size=600,
    )  # fmt: skip
    extractor = classifier_extractor(untrained, "cpu")
    ours = [extractor(torch.from_numpy(images)) for images in (some, others)]
    assert ours[0].shape == (600, 10) and ours[0].dtype == torch.float64
    assert_equal_metrics(*ours, theirs)


def test_distance_of_gaussians():
    """Against the closed form for commuting covariances: ||m1 - m2||^2 + sum (s1 - s2)^2."""
    g = torch.Generator().manual_seed(0)
    white = torch.linalg.qr(torch.randn(4000, 3, generator=g, dtype=torch.float64)).Q
    white = torch.linalg.qr(white - white.mean(0)).Q * (len(white) - 1) ** 0.5
    one = white * torch.tensor([1.0, 2.0, 3.0])
    other = white * torch.tensor([2.0, 2.0, 1.0]) + torch.tensor([0.5, 0.0, 0.0])
    assert frechet_distance(Gaussian.of(one), Gaussian.of(other)) == pytest.approx(0.25 + 1 + 4, rel=1e-9)


def test_real_features_are_cached_under_data_and_extractor(digits, untrained, tmp_path):
    extractor = classifier_extractor(untrained, "cpu")
    features = features_of_images(digits, extractor, ALONE_ON_CPU)
    (file,) = (tmp_path / "cache" / "features").iterdir()
    assert digits.fingerprint in file.name and extractor.name in file.name
    assert torch.equal(features_of_images(digits, extractor, ALONE_ON_CPU), features)
    file.write_bytes(file.read_bytes()[:-8])
    assert torch.equal(features_of_images(digits, extractor, ALONE_ON_CPU), features)


def test_evaluation_is_repeatable_and_named(digits, untrained, monkeypatch):
    torch.manual_seed(0)
    network = build_generator("digits", "p4", width=0.1).eval()
    extractor, lines = classifier_extractor(untrained, "cpu"), []
    evaluation = Evaluation(
        digits, extractor, samples=300, seed=0, world=ALONE_ON_CPU, metrics=("fid", "kid", "pr"), log=lines.append
    )
    assert "300 generated and 2,880 real images are fewer than 2,048" in lines[0]
    values = evaluation.of_generator(network)
    assert list(values) == [f"{m}-300-{extractor.name}" for m in ("fid", "kid", "kid-std", "precision", "recall")]
    assert evaluation.of_generator(network) == values
    again = Evaluation(
        digits, extractor, samples=300, seed=0, world=ALONE_ON_CPU, metrics=("fid", "pr"), log=lines.append
    )
    monkeypatch.setattr("gan.metrics.evaluation.neighbour_distances", None)  # the radii of the real ones are cached
    assert again.of_generator(network).items() < values.items()
    other = features_of_generator(network, labels_like(digits, 300, 0), extractor, ALONE_ON_CPU, seed=1)
    assert frechet_distance(Gaussian.of(other), Gaussian.of(evaluation.real)) != values[evaluation.name()]
    assert evaluation.of_images(digits) == {f"fid-2880-{extractor.name}": pytest.approx(0, abs=1e-6)}


def test_labels_follow_the_data(digits):
    labels = labels_like(digits, len(digits), seed=0)
    assert torch.equal(labels.bincount(), torch.from_numpy(digits.labels).bincount())
    assert len(labels_like(digits, 2 * len(digits) + 5, seed=0)) == 2 * len(digits) + 5


def test_moments_are_the_mean_over_the_batches():
    torch.manual_seed(0)
    network = build_generator("digits", "p4", width=0.1)
    buffers = {name: b.clone() for name, b in network.named_buffers() if name.endswith(".u")}
    labels = torch.tensor([3, 3, 7])
    estimate_statistics(network, labels, 16, 5, ALONE_ON_CPU)
    assert not network.training
    assert all(torch.equal(b, buffers[name]) for name, b in network.named_buffers() if name in buffers)
    seen = []
    norm = network.blocks[1].norm
    norm.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0].mean((0, 2, 3, 4))))
    for batch in range(BATCHES):
        random = random_generator(5, "moments", batch)
        z = draw_noise(network, 16, random).z
        network(z, labels[torch.randint(3, (16,), generator=random)])
    assert torch.allclose(norm.running_mean, torch.stack(seen).mean(0), atol=1e-5)


def test_a_damaged_classifier_in_the_cache_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("GCNN_CACHE", str(tmp_path))
    train = data.load("digits", fraction=0.1)
    assert classify.main(["--dataset", "digits", "--epochs", "1", "--data-fraction", "0.1", "--device", "cpu"]) == 0
    path = store.find_stored("p4cnn", train)
    whole = path.read_bytes()
    for damaged in (whole[:100], b"", whole[:-1] + bytes([whole[-1] ^ 1])):  # cut off, empty, one bit
        path.write_bytes(damaged)
        assert store.find_stored("p4cnn", train) is None
    path.write_bytes(whole)
    assert store.find_stored("p4cnn", train) == path
