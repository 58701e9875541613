"""LYSTO: from a few files in exactly the layout of the original."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import gan.data
from gan.data import DataError

ORGANS = [b"breast_1", b"colon_2", b"colon_3", b"prostate_1", b"breast_7", b"prostate_2"]


@pytest.fixture
def lysto_root(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "training.h5", "w") as file:
        file["x"] = rng.integers(0, 256, (len(ORGANS), 299, 299, 3), dtype=np.uint8)
        file["y"] = rng.integers(0, 20, len(ORGANS))
        file["organ"] = np.array(ORGANS)
    return tmp_path


def test_lysto_is_the_centre_labelled_by_organ(lysto_root):
    import h5py

    train, validation = (gan.data.load("lysto", lysto_root, split=s) for s in ("train", "validation"))
    assert train.class_names == ("breast", "colon", "prostate") and train.labels.tolist() == [0, 1, 1, 2, 0, 2]
    assert validation.fingerprint == train.fingerprint and validation.split == "train"
    with h5py.File(lysto_root / "training.h5") as file:
        np.testing.assert_array_equal(train.images, file["x"][:, 21:277, 21:277])
    small = gan.data.load("lysto", lysto_root, resolution=64)
    np.testing.assert_array_equal(
        small.images[2], Image.fromarray(train.images[2]).resize((64, 64), Image.Resampling.LANCZOS)
    )


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda f: f.pop("organ"), r"training.h5: expected the keys x and organ, found x, y"),
        (
            lambda f: (f.pop("x"), f.create_dataset("x", data=np.zeros((6, 64, 64, 3), np.uint8))),
            r"x: expected uint8 \[N, 299, 299, 3\], found uint8 \[6, 64, 64, 3\]",
        ),
        (lambda f: f["organ"].__setitem__(1, b"liver_1"), r"organ: expected breast, colon, prostate, found liver"),
        (
            lambda f: (f.pop("organ"), f.create_dataset("organ", data=np.array(ORGANS[:4]))),
            r"x has 6 images, organ 4 entries",
        ),
    ],
)
def test_lysto_names_foreign_contents(lysto_root, change, message):
    import h5py

    with h5py.File(lysto_root / "training.h5", "a") as file:
        change(file)
    with pytest.raises(DataError, match=message):
        gan.data.load("lysto", lysto_root)


def test_lysto_names_a_missing_or_truncated_file(lysto_root):
    path = lysto_root / "training.h5"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"training.h5: cannot be read as HDF5, it is cut off or damaged"):
        gan.data.load("lysto", lysto_root)
    path.unlink()
    with pytest.raises(DataError, match=r"training.h5: no such file. It comes from lysto.grand-challenge.org"):
        gan.data.load("lysto", lysto_root)
