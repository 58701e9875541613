"""Inception with random weights, in its exact layout: the plumbing of metrics and fine-tuning, not the numbers."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision.transforms.functional import to_pil_image

from gan import data
from gan.classifiers import store
from gan.classifiers.fine_tuning import fine_tune_and_store
from gan.classifiers.inception import read_inception
from gan.commands import classify
from gan.common.distributed import ALONE_ON_CPU
from gan.data import to_uint8
from gan.metrics import weights
from gan.metrics.distances import Gaussian, Manifold, frechet_distance, kernel_distance, precision_recall
from gan.metrics.extractors import classifier_extractor, inception_extractor
from gan.metrics.features import features_of_generator, features_of_images
from gan.networks import build_generator
from gan.options import resolve
from gan.runs.evaluation import choose_evaluation


class Unloaded(FeatureExtractorInceptionV3):
    def load_state_dict(self, *arguments, **options):
        pass


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """A cache of its own, and images resampled to the least that Inception takes, for torch-fidelity and for us."""
    monkeypatch.setenv("GCNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(FeatureExtractorInceptionV3, "INPUT_IMAGE_SIZE", 75)


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A file as the official one. He's initialisation keeps the images apart, torch's own does not."""
    torch.manual_seed(0)
    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    network = Unloaded("inception-v3-compat", ["2048"], feature_extractor_weights_path=nothing)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight).mul_(1.2)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


def blobs(count, shift, seed):
    """uint8 ``[count, 24, 24, 3]``: smooth random colours."""
    coarse = np.random.default_rng(seed).integers(0, 200, (count, 3, 3, 3)) + shift
    return [Image.fromarray(c.astype(np.uint8)).resize((24, 24), Image.Resampling.BICUBIC) for c in coarse]


def test_metrics_equal_torch_fidelity_on_the_same_image_folders(tmp_path, random_weights):
    """A generator's images and real ones, by our path of arrays and by theirs of files."""
    torch.manual_seed(0)
    network = build_generator("digits", "p4", width=0.1, image_channels=3).eval()
    labels, written, kept = torch.arange(40) % 10, tmp_path / "generated", tmp_path / "real"
    images = []
    network.register_forward_hook(lambda module, arguments, output: images.extend(to_uint8(output)))
    extractor = inception_extractor(random_weights, "cpu")
    assert extractor.name == f"inception-{weights.sha256_of(random_weights)[:8]}"
    generated = features_of_generator(network, labels, extractor, ALONE_ON_CPU, seed=0)
    for folder, pictures in (
        (written, [to_pil_image(image.permute(2, 0, 1)) for image in images]),
        (kept, [blob.resize((16, 16)) for blob in blobs(50, 40, 0)]),
    ):
        folder.mkdir()
        for index, picture in enumerate(pictures):
            picture.save(folder / f"{index:03d}.png")
    real = features_of_images(data.load("folder", kept, resolution=16), extractor, ALONE_ON_CPU)
    theirs = torch_fidelity.calculate_metrics(
        input1=str(written), input2=str(kept), fid=True, kid=True, prc=True, kid_subset_size=40,
        feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(random_weights),
        cuda=False, cache=False, save_cpu_ram=True, verbose=False,
    )  # fmt: skip
    assert generated.shape == (40, 2048) and real.shape == (50, 2048)
    distance = frechet_distance(Gaussian.of(generated), Gaussian.of(real))
    assert distance == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert kernel_distance(generated, real)[0] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    found = precision_recall(Manifold.of(generated), Manifold.of(real))
    assert found == pytest.approx((theirs["precision"], theirs["recall"]), rel=1e-6)


@pytest.fixture
def slides(tmp_path):
    """Two stains, one slide of 512x512 each."""
    noise = np.random.default_rng(0).integers(0, 60, (2, 512, 512, 3))
    for name, shift, pixels in (("blue", (0, 0, 120), noise[0]), ("red", (120, 0, 0), noise[1])):
        folder = tmp_path / "slides" / name
        folder.mkdir(parents=True)
        Image.fromarray((pixels + np.array(shift)).astype(np.uint8)).save(folder / "slide.png")
    return tmp_path / "slides"


def test_fine_tuned_inception_measures_the_data_set_at_the_size_of_the_networks(slides, random_weights, monkeypatch):
    options = resolve(
        {"dataset": "anhir", "preset": "anhir64", "data": str(slides), "inception_weights": str(random_weights)}
    )
    train = data.load("anhir", slides, resolution=64)
    arguments = ["--dataset", "anhir", "--data", str(slides), "--model", "inception", "--device", "cpu"]
    weights_given = ["--inception-weights", str(random_weights)]
    assert classify.main([*arguments, *weights_given, "--epochs", "1"]) == 0  # of 128x128
    assert store.find_stored("inception", train) is None
    lines = []
    evaluation = choose_evaluation(options, train, ALONE_ON_CPU, lines.append)
    assert "training the inception whose features are compared, 5 epochs" in lines[0]
    path = store.find_stored("inception", train)
    assert store.describe(path).resolution == 64
    losses = [float(line.split()[3]) for line in lines if line.startswith("epoch")]
    assert len(losses) == 5 and losses[-1] < losses[0]
    assert evaluation.name() == f"fid-{len(evaluation.images)}-inception-anhir-{store.key_of(path.read_bytes())}"
    before, after = read_inception(random_weights), store.load_classifier(path).network
    assert torch.equal(before.fc.weight, after.fc.weight)
    assert not torch.equal(before.Conv2d_1a_3x3.conv.weight, after.Conv2d_1a_3x3.conv.weight)
    assert not torch.equal(before.Mixed_7c.branch_pool.bn.running_mean, after.Mixed_7c.branch_pool.bn.running_mean)
    lines.clear()
    monkeypatch.setattr("gan.runs.evaluation.fine_tuning", None)  # it is not trained again
    choose_evaluation(options, train, ALONE_ON_CPU, lines.append)
    assert len(lines) == 2 and lines[0].startswith(f"features of {path} (5 epochs")


def test_fine_tuned_features_are_those_before_the_classes(slides, random_weights):
    images = data.load("anhir", slides, resolution=64)
    path = fine_tune_and_store(images, images, random_weights, epochs=1, seed=0, device="cpu", log=lambda line: None)
    model, extractor = store.load_classifier(path), classifier_extractor(path, "cpu")
    pixels, _ = images.batch(range(5))
    features = extractor(pixels)
    logits = model(pixels.permute(0, 3, 1, 2))
    expected = features @ model.head.weight.double().T + model.head.bias.double()
    assert features.shape == (5, 2048)
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)


def test_without_the_official_weights_the_message_says_what_to_put_where(monkeypatch, tmp_path):
    def unreachable(url, root, filename):
        raise OSError("no route to host")

    monkeypatch.setattr(weights, "download_url", unreachable)
    with pytest.raises(ValueError, match="no route to host") as error:
        weights.official_inception()
    for part in (weights.FILE, "95,628,359 bytes", weights.SHA256, weights.URL, str(tmp_path / "cache" / "weights")):
        assert part in str(error.value)
    (tmp_path / "cache" / "weights" / weights.FILE).write_bytes(b"half of it")
    with pytest.raises(ValueError, match=f"expected 95,628,359 bytes with SHA-256 {weights.SHA256}, found"):
        weights.official_inception()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "inception.pth: no such file"), (b"nothing", "inception.pth does not hold the weights of Inception")],
)
def test_a_file_that_is_not_inceptions(tmp_path, content, message):
    path = tmp_path / "inception.pth"
    if content:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        inception_extractor(path, "cpu")
