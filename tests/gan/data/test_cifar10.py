"""CIFAR-10: from a few files in exactly the layout of the original."""

from __future__ import annotations

import hashlib
import pickle

import numpy as np
import pytest
import torchvision.datasets
from picture_files import pack, visible

import gan.data
from gan.data import DataError


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """``cifar-10-batches-py`` with four images per batch, and their checksums in place of the real ones."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    rng = np.random.default_rng(0)
    images, sums = {}, {}

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()

    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        images[name] = rng.integers(0, 256, (4, 3072), dtype=np.uint8)
        write(name, {"data": images[name], "labels": rng.permutation(10)[:4].tolist()})
    write("batches.meta", {"label_names": [f"class {i}" for i in range(10)]})
    set_ = torchvision.datasets.CIFAR10
    for attribute in ("train_list", "test_list"):
        monkeypatch.setattr(set_, attribute, [[name, sums[name]] for name, _ in getattr(set_, attribute)])
    monkeypatch.setattr(set_, "meta", {**set_.meta, "md5": sums["batches.meta"]})
    return folder, images


def test_cifar10_reads_the_batches(cifar):
    folder, images = cifar
    train, validation = (gan.data.load("cifar10", folder.parent, split=s) for s in ("train", "validation"))
    assert train.images.shape == (20, 32, 32, 3) and validation.images.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(train.images[7].transpose(2, 0, 1).ravel(), images["data_batch_2"][3])
    np.testing.assert_array_equal(validation.images[0].transpose(2, 0, 1).ravel(), images["test_batch"][0])
    assert train.class_names[3] == "class 3" and train.fingerprint != validation.fingerprint


def test_cifar10_names_a_damaged_batch(cifar):
    batch = cifar[0] / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"cut off or not CIFAR-10's: data_batch_3. Remove the folder"):
        gan.data.load("cifar10", cifar[0].parent)


def test_cifar10_is_unpacked_from_a_verified_archive(cifar, monkeypatch):
    root = cifar[0].parent
    md5 = pack(root / "cifar-10-python.tar.gz", cifar[0])
    with pytest.raises(DataError, match=rf"cifar-10-python.tar.gz: expected MD5 c58f\w+, found {md5}; remove it"):
        gan.data.load("cifar10", root)
    assert not cifar[0].exists()
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", md5)
    assert len(gan.data.load("cifar10", root)) == 20


def test_cifar10_without_files_or_network_says_what_is_needed(tmp_path):
    with pytest.raises(
        DataError, match=r"cannot be downloaded: no route to host\nPut it into .* as cifar-10-python.tar.gz, .*--data"
    ):
        gan.data.load("cifar10", tmp_path)
    assert visible(tmp_path) == []
