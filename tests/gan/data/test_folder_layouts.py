"""folder: which subfolders are splits, which are classes, and which files count."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import gan.data
from gan.data import DataError


def save(path, value: int = 0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)


def load(root, split="train"):
    return gan.data.load("folder", root, split=split)


@pytest.mark.parametrize(
    ("training", "validation"),
    [("train", "valid"), ("train", "eval"), ("train", "dev"), ("Train", "Test"), ("training", "validation"),
     ("TRAIN", "VAL"), ("training", "testing"), ("train", "evaluation")],
)  # fmt: skip
def test_names_of_splits(tmp_path, training, validation):
    for name in ("cats", "dogs"):
        for i in range(3):
            save(tmp_path / training / name / f"{i}.png", i)
        save(tmp_path / validation / name / "0.png", 9)
    images = load(tmp_path)
    assert images.class_counts == {"cats": 3, "dogs": 3} and images.split == "train"
    images = load(tmp_path, "validation")
    assert images.class_counts == {"cats": 1, "dogs": 1} and images.split == "validation"


def test_a_validation_folder_is_preferred_to_a_test_folder(tmp_path):
    for split, count in (("train", 3), ("test", 2), ("val", 1)):
        for i in range(count):
            save(tmp_path / split / f"{i}.png", i)
    assert len(load(tmp_path, "validation")) == 1


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("train", "holdout"),
            "train is the folder of the training images, but holdout next to it is none of",
        ),
        (("train", "test", "cats"), "but cats next to it is none of"),
        (("trainA", "trainB", "testA", "testB"), "found testA, testB, trainA, trainB: give the folder of one domain"),
        (("Train", "train"), "expected one folder train, found Train and train"),
        (("val", "test"), "found test, val, but no folder train next to it"),
    ],
)
def test_layouts_that_could_be_misread_are_refused(tmp_path, names, message):
    for name in names:
        save(tmp_path / name / "0.png")
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_a_class_may_be_called_like_a_split_where_there_is_no_training_folder(tmp_path):
    for name in ("dev", "ops"):
        save(tmp_path / name / "0.png")
    assert load(tmp_path).class_names == ("dev", "ops")


def test_links_back_to_a_folder_count_nothing_twice(tmp_path):
    for i in range(3):
        save(tmp_path / "cells" / "plates" / f"{i}.png", i)
    for name, target in (("again", "."), ("up", ".."), ("plates/round", "../plates"), ("twin", "plates")):
        (tmp_path / "cells" / name).symlink_to(target)
    (tmp_path / "cells" / "alias.png").symlink_to("plates/0.png")
    assert load(tmp_path).class_counts == {"cells": 3}


def test_a_class_may_be_a_link(tmp_path):
    save(tmp_path / "elsewhere" / "0.png")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "cells").symlink_to(tmp_path / "elsewhere")
    assert load(tmp_path / "set").class_counts == {"cells": 1}


@pytest.mark.parametrize("hidden", [".thumbnails", "@eaDir", "__MACOSX", ".git", "#recycle"])
def test_hidden_folders_are_left_out(tmp_path, hidden):
    save(tmp_path / "cells" / "0.png")
    save(tmp_path / "cells" / hidden / "deeper" / "0.png", 1)
    save(tmp_path / hidden / "0.png", 2)
    images = load(tmp_path)
    assert images.class_counts == {"cells": 1}
    assert "1 images in hidden folders left out" in images.notes
