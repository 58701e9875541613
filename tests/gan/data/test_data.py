"""Image sets, the digits and rotated MNIST."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import torch

import gan.data
from gan.data import DataError, imageset, mnist
from gan.data.rotate import rotate

MNIST_ROOT = Path(__file__).resolve().parents[4] / "shared" / "data"  # the real files, where they are at hand


@pytest.fixture(scope="module")
def digits():
    return gan.data.load("digits")


# --- bytes and floats


def test_to_tensor_scales_to_minus_one_and_one_in_channels_last():
    images = torch.arange(256, dtype=torch.uint8).reshape(2, 8, 8, 2)
    out = gan.data.to_tensor(images)
    assert out.shape == (2, 2, 8, 8) and out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out[1, 1, 7, 7], torch.tensor(1.0)) and torch.equal(out[0, 0, 0, 0], torch.tensor(-1.0))
    torch.testing.assert_close(out.permute(0, 2, 3, 1).double(), images.double() / 127.5 - 1, rtol=0, atol=1e-7)
    assert torch.equal(gan.data.to_uint8(out), images)


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor([-7.0, -1.0, 0.0, 1 / 127.5, 0.999, 1.0, 9.0]).reshape(1, 1, 1, 7)
    assert gan.data.to_uint8(values).flatten().tolist() == [0, 0, 128, 128, 255, 255, 255]


def test_conversions_name_what_they_got():
    with pytest.raises(TypeError, match=r"images: expected uint8 \[B, H, W, C\], got torch.float32 \(2, 3\)"):
        gan.data.to_tensor(torch.zeros(2, 3))
    with pytest.raises(TypeError, match=r"images: expected floating-point \[B, C, H, W\], got torch.uint8"):
        gan.data.to_uint8(torch.zeros(1, 1, 2, 2, dtype=torch.uint8))


# --- order, subsets, fingerprints


def test_stratified_order_has_the_proportions_in_every_prefix():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    order = imageset.stratified_order(labels, seed=3)
    assert sorted(order) == list(range(1000))
    for length in (10, 37, 333, 999):
        counts = np.bincount(labels[order[:length]], minlength=3)
        assert np.abs(counts - length * np.array([0.6, 0.3, 0.1])).max() <= 1.5, length
    assert not np.array_equal(order, imageset.stratified_order(labels, seed=4))


def test_subsets_are_exact_nested_and_their_own_data(digits):
    small, large = digits.subset(0.1, seed=1), digits.subset(0.33, seed=1)
    assert len(small) == round(0.1 * len(digits)) and len(large) == round(0.33 * len(digits))
    assert {image.tobytes() for image in small.images} <= {image.tobytes() for image in large.images}
    fingerprints = {s.fingerprint for s in (digits, small, large, digits.subset(0.1, seed=2))}
    assert len(fingerprints) == 4
    assert digits.subset(0.1, seed=1).fingerprint == small.fingerprint
    assert digits.subset(1, seed=1) is digits


@pytest.mark.parametrize("fraction", [0, -1, 1.5])
def test_subset_refuses_other_fractions(digits, fraction):
    with pytest.raises(ValueError, match=r"fraction: expected a number in \(0, 1\]"):
        digits.subset(fraction, seed=0)


def test_subset_refuses_to_lose_a_class(digits):
    with pytest.raises(ValueError, match=r"fraction: 0.0001 of 11496 images of digits leaves no image of 0, "):
        digits.subset(0.0001, seed=0)


def test_fingerprint_sees_pixels_labels_and_description():
    images, labels = np.zeros((5, 2, 2, 1), np.uint8), np.zeros(5, np.int64)
    changed, other = images.copy(), labels.copy()
    changed[4, 1, 1, 0] = other[4] = 1
    prints = [
        imageset.content_fingerprint(images, labels, name="a"),
        imageset.content_fingerprint(changed, labels, name="a"),
        imageset.content_fingerprint(images, other, name="a"),
        imageset.content_fingerprint(images, labels, name="b"),
    ]
    assert len(set(prints)) == 4


def test_batches_are_copies_in_the_order_asked_for(digits):
    indices = torch.tensor([5, 0, 5])
    images, labels = digits.batch(indices)
    assert images.dtype == torch.uint8 and images.shape == (3, 16, 16, 1) and labels.dtype == torch.int64
    assert torch.equal(images[0], images[2]) and labels.tolist() == digits.labels[[5, 0, 5]].tolist()
    images.zero_()
    assert digits.images[5].any()
    resident = digits.resident("cpu")
    again, labels_again = resident.batch(indices)
    assert torch.equal(again, digits.batch(indices)[0]) and torch.equal(labels_again, labels)


# --- rotation


def test_rotation_agrees_with_scipy():
    rng = np.random.default_rng(0)
    images, angles = rng.integers(0, 256, (70, 11, 11)), rng.uniform(0, 2 * np.pi, 70)
    out = rotate(images, angles, size=11)
    for image, angle, result in zip(images, angles, out, strict=True):
        expected = scipy.ndimage.rotate(
            image.astype(float), np.degrees(angle), reshape=False, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(result, expected, atol=2e-3)


def test_quarter_turns_are_counter_clockwise():
    images = np.random.default_rng(0).integers(0, 256, (1, 9, 9))
    for turns in range(4):
        np.testing.assert_allclose(
            rotate(images, [turns * np.pi / 2], size=9)[0], np.rot90(images[0], turns), atol=1e-3
        )


def test_rotation_enlarges_in_the_same_resampling():
    ramp = np.tile(np.arange(8.0), (1, 8, 1))
    out = rotate(ramp, [0.0], size=8, step=0.5)
    np.testing.assert_allclose(out[0, 3], 3.5 + 0.5 * (np.arange(8) - 3.5), rtol=1e-6)


# --- digits


def test_digits_are_the_same_bytes_everywhere(digits):
    assert digits.fingerprint == "f32caed993789ce7b155359e4b08af8d"


def test_digits_have_readable_sizes_and_disjoint_splits(digits):
    validation = gan.data.load("digits", split="validation")
    assert digits.images.shape == (11496, 16, 16, 1) and validation.images.shape == (2880, 16, 16, 1)
    assert digits.images.dtype == np.uint8 and digits.images.max() == 255
    share = np.array(list(digits.class_counts.values())) / len(digits)
    assert np.abs(share - np.array(list(validation.class_counts.values())) / len(validation)).max() < 0.01
    assert not {i.tobytes() for i in digits.images} & {i.tobytes() for i in validation.images}
    assert digits.summary().startswith("digits (train): 11496 images 16x16x1, 10 classes, ")


def test_digits_keep_their_ink_inside(digits):
    """The field of view holds a digit at every angle: hardly any ink on the rim."""
    rim = np.ones((16, 16, 1), bool)
    rim[1:-1, 1:-1] = False
    assert digits.images[:, rim[..., 0]].mean() < 0.05 * digits.images.mean()


# --- rotated MNIST


def write_mnist(root, train=60, test=10, size=28):
    """The four files of MNIST in torchvision's layout, with few random digits."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for prefix, count in (("train", train), ("t10k", test)):
        images = rng.integers(0, 256, (count, size, size), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(
            struct.pack(">4i", 2051, count, size, size) + images.tobytes()
        )
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())
    return raw


@pytest.fixture
def small_splits(monkeypatch):
    monkeypatch.setattr(mnist, "TRAIN", 20)
    monkeypatch.setattr(mnist, "VALIDATION", 50)


def test_rotmnist_splits_one_permutation_of_all_digits(tmp_path, small_splits):
    write_mnist(tmp_path)
    train, validation = (gan.data.load("rotmnist", tmp_path, split=s) for s in ("train", "validation"))
    assert train.images.shape == (20, 28, 28, 1) and validation.images.shape == (50, 28, 28, 1)
    assert train.notes[1].startswith(
        "not the original MNIST, by their checksums: train-images-idx3-ubyte, train-labels"
    )
    pool, labels, *_ = mnist.read_mnist(tmp_path)
    order = np.random.default_rng(mnist.SEED).permutation(70)
    angles = np.random.default_rng(mnist.SEED + 1).uniform(0, 2 * np.pi, 70)
    np.testing.assert_array_equal(np.concatenate([train.labels, validation.labels]), labels[order])
    for image, index in zip(train.images, order, strict=False):
        expected = scipy.ndimage.rotate(
            pool[index].astype(float), np.degrees(angles[index]), reshape=False, order=1, mode="grid-constant"
        )
        assert np.abs(image[..., 0] - expected).max() < 0.51


def test_rotmnist60k_keeps_the_test_digits_apart(tmp_path):
    write_mnist(tmp_path)
    train, validation = (gan.data.load("rotmnist60k", tmp_path, split=s) for s in ("train", "validation"))
    assert len(train) == 60 and len(validation) == 10
    np.testing.assert_array_equal(validation.labels, np.arange(10))
    both = np.concatenate([train.images, validation.images])
    rotmnist = rotate(
        mnist.read_mnist(tmp_path).images,
        np.random.default_rng(mnist.SEED + 1).uniform(0, 2 * np.pi, 70),
        size=28,
    )
    np.testing.assert_array_equal(both[..., 0], np.rint(rotmnist))


def test_rotmnist_on_the_real_files():
    if not (MNIST_ROOT / "MNIST").is_dir():
        pytest.skip("no MNIST in ../shared/data")
    train = gan.data.load("rotmnist", MNIST_ROOT)
    assert train.images.shape == (12000, 28, 28, 1)
    assert min(train.class_counts.values()) > 1000
    assert len(train.notes) == 1
    assert train.fingerprint == "12fa6a293c7eb3902fd6683cb5fe7457"


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda f: f.unlink(), r"train-images-idx3-ubyte: No such file"),
        (lambda f: f.write_bytes(f.read_bytes()[:-5]), r"says 47,056 bytes, the file has 47,051; it is cut off"),
        (lambda f: f.write_bytes(b""), r"expected an idx file \(first bytes 00000803\), found ''"),
        (lambda f: f.write_bytes(b"<html>" + bytes(99)), r"expected an idx file .* found '3c68746d'"),
        (lambda f: f.write_bytes(f.read_bytes()[:9]), r"train-images-idx3-ubyte: its header"),
    ],
)
def test_rotmnist_names_the_damaged_file(tmp_path, small_splits, damage, message):
    damage(write_mnist(tmp_path) / "train-images-idx3-ubyte")
    with pytest.raises(DataError, match=message):
        gan.data.load("rotmnist", tmp_path)


def test_rotmnist_names_foreign_contents(tmp_path, small_splits):
    write_mnist(tmp_path / "small", size=8)
    with pytest.raises(DataError, match=r"expected as many 28x28 images as labels in train-\*, found .*\(60, 8, 8\)"):
        gan.data.load("rotmnist", tmp_path / "small")
    write_mnist(tmp_path / "few", train=30)
    with pytest.raises(DataError, match=r"expected at least 70 digits, found 40"):
        gan.data.load("rotmnist", tmp_path / "few")


def test_rotmnist_without_files_or_network_says_what_is_needed(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", offline)
    with pytest.raises(
        DataError, match=r"cannot be downloaded: no route to host\nPut .*\(47,040,016 bytes\).*--data is the folder"
    ):
        gan.data.load("rotmnist", tmp_path)


# --- arguments of load


def test_load_names_the_bad_argument():
    with pytest.raises(ValueError, match=r"name: expected one of digits, .*, got 'mnist'"):
        gan.data.load("mnist")
    with pytest.raises(ValueError, match=r"split: expected 'train' or 'validation', got 'test'"):
        gan.data.load("digits", split="test")
    with pytest.raises(ValueError, match=r"fraction: only the training images are thinned out, got 0.5"):
        gan.data.load("digits", split="validation", fraction=0.5)
    with pytest.raises(ValueError, match=r"resolution: digits has 16, got 32"):
        gan.data.load("digits", resolution=32)
