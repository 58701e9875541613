"""Food-101: from a few files in exactly the layout of the original."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from picture_files import pack, picture, save, visible
from PIL import Image

import gan.data
from gan.data import DataError, food101


def write_food(root: Path, size=(48, 36)) -> Path:
    """``food-101`` with meta/*.json, meta/*.txt and images/CLASS/ID.jpg; three classes."""
    folder = root / "food-101"
    lists = {"train": {}, "test": {}}
    for label, name in enumerate(("apple_pie", "sushi", "waffles")):
        for split, count in (("train", 3), ("test", 1)):
            ids = [f"{name}/{1000 * label + 10 * len(split) + i}" for i in range(count)]
            lists[split][name] = ids
            for i, image in enumerate(ids):
                save(folder / "images" / f"{image}.jpg", picture(10 * label + i, *size), quality=95)
    (folder / "meta").mkdir()
    for split, images in lists.items():
        (folder / "meta" / f"{split}.json").write_text(json.dumps(images))
    (folder / "meta" / "classes.txt").write_text("apple_pie\nsushi\nwaffles\n")
    return folder


def test_food101_is_prepared_once_as_central_squares(tmp_path):
    folder = write_food(tmp_path)
    train = gan.data.load("food101", tmp_path)
    assert train.images.shape == (9, 64, 64, 3) and train.class_counts == {"apple_pie": 3, "sushi": 3, "waffles": 3}
    with Image.open(folder / "images" / "sushi" / "1051.jpg") as image:
        middle = image.crop((0, 6, 36, 42)).resize((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(train.images[4], middle)
    assert train.notes == ("9 images smaller than the resolution and enlarged",)
    validation = gan.data.load("food101", tmp_path, split="validation", resolution=16)
    assert validation.images.shape == (3, 16, 16, 3)
    assert gan.data.load("food101", tmp_path).fingerprint == train.fingerprint
    assert {path.name.rsplit("-", 1)[0] for path in (tmp_path / "prepared").glob("food*")} == {
        "food101-64-train",
        "food101-16-validation",
    }


def test_food101_is_unpacked_from_a_verified_archive(tmp_path, monkeypatch):
    md5 = pack(tmp_path / "food-101.tar.gz", write_food(tmp_path))
    with pytest.raises(DataError, match=r"food-101.tar.gz: expected MD5 85eeb15f3717b99a5da872d97d918f87, found"):
        gan.data.load("food101", tmp_path)
    monkeypatch.setattr(food101.Food101, "_MD5", md5)
    assert len(gan.data.load("food101", tmp_path)) == 9
    assert visible(tmp_path) == ["food-101", "food-101.tar.gz", "prepared"]


def test_food101_names_missing_and_truncated_images(tmp_path):
    images = write_food(tmp_path) / "images"
    (images / "sushi" / "1050.jpg").unlink()
    whole = (images / "waffles" / "2051.jpg").read_bytes()
    (images / "waffles" / "2051.jpg").write_bytes(whole[:-20])
    with pytest.raises(DataError) as error:
        gan.data.load("food101", tmp_path)
    message = str(error.value)
    assert "2 files cannot be read as images:" in message
    assert "sushi/1050.jpg: No such file or directory" in message
    assert "waffles/2051.jpg: image file is truncated" in message


@pytest.mark.parametrize("content", ["{", "[1, 2]"])
def test_food101_names_a_damaged_list(tmp_path, content):
    (write_food(tmp_path) / "meta" / "train.json").write_text(content)
    with pytest.raises(DataError, match=r"meta/train.json: expected the lists of Food-101"):
        gan.data.load("food101", tmp_path)
