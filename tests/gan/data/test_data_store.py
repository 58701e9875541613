"""Prepared sets under faults: interruption, full disk, damage, changed sources, two processes."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import re
import resource
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gan.data
from gan.data import DataError, folder, imageset, store


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for i in range(5):
            path = tmp_path / "mine" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return tmp_path / "mine"


def prepared(root: Path) -> list[str]:
    """Everything in the folder of prepared sets except locks."""
    return sorted(path.name for path in (root / "prepared").glob("*") if path.suffix != ".lock")


def test_prepared_images_are_a_plain_npy_file_and_a_record(root):
    images = gan.data.load("folder", root)
    (name,) = prepared(root)
    path = root / "prepared" / name
    np.testing.assert_array_equal(np.load(path / "images.npy"), images.images)
    np.testing.assert_array_equal(np.load(path / "labels.npy"), images.labels)
    record = json.loads((path / "set.json").read_text())
    assert record["fingerprint"] == images.fingerprint and record["class_counts"] == [5, 5]
    assert set(record["versions"]) == {"numpy", "pillow", "torchvision"}
    assert images.fingerprint == imageset.content_fingerprint(
        images.images, images.labels, name="folder", split="train", classes=["a", "b"]
    )
    assert not images.images.flags.writeable and isinstance(images.images.base, np.memmap)


def header(count, shape):
    file = io.BytesIO()
    store._write_header(file, count, shape)
    return file.getvalue()


def test_header_has_the_same_length_for_every_count(tmp_path):
    """It is written over, with the count, when all images are there."""
    assert len({len(header(count, (256, 256, 6))) for count in (0, 9, 10**9)}) == 1
    path = tmp_path / "two.npy"
    path.write_bytes(header(2, (1, 1, 3)) + bytes(range(6)))
    np.testing.assert_array_equal(np.load(path), np.arange(6, dtype=np.uint8).reshape(2, 1, 1, 3))


def test_changed_sources_are_prepared_anew_and_have_another_fingerprint(root):
    before = gan.data.load("folder", root)
    assert gan.data.load("folder", root).fingerprint == before.fingerprint and len(prepared(root)) == 1
    Image.new("RGB", (8, 8)).save(root / "b" / "5.png")
    after = gan.data.load("folder", root)
    assert len(after) == 11 and after.fingerprint != before.fingerprint
    assert len(before.images) == 10 and before.images.any()
    assert len(prepared(root)) == 2


def test_changes_that_keep_the_size_are_seen(root):
    path = root / "b" / "5.bmp"
    Image.new("RGB", (8, 8)).save(path)
    before, stat = gan.data.load("folder", root), path.stat()
    Image.new("RGB", (8, 8), "red").save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))
    assert path.stat().st_size == stat.st_size
    assert gan.data.load("folder", root).fingerprint != before.fingerprint


def test_touched_but_equal_sources_keep_their_fingerprint(root):
    before = gan.data.load("folder", root)
    os.utime(root / "a" / "0.png", ns=(0, 0))
    assert gan.data.load("folder", root).fingerprint == before.fingerprint


def load_on_a_full_disk(root: Path, answer) -> None:
    """Files of this process end at 1,000 bytes: the operating system refuses more, as it does when the disk is full."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        gan.data.load("folder", root)
    except DataError as error:
        answer.put(str(error))
    else:
        answer.put("loaded")


def test_a_full_disk_is_reported_and_leaves_nothing(root):
    # In a process of its own: the limit also holds for a file that the test report is written to.
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=load_on_a_full_disk, args=(root, answer))
    process.start()
    message = answer.get()
    process.join()
    assert re.search(r"cannot write the prepared images .*/prepared/folder-8-train-\w+: File too large", message)
    assert prepared(root) == []


def test_an_unwritable_place_is_reported_with_a_way_out(root, tmp_path):
    (root / "prepared").write_text("not a folder")
    with pytest.raises(DataError, match=r"File exists.*prepare --dataset folder --data .*mine --out DIR"):
        gan.data.load("folder", root)
    images = gan.data.prepare("folder", root, tmp_path / "elsewhere")
    assert gan.data.load("folder", tmp_path / "elsewhere").fingerprint == images.fingerprint


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "images.npy").write_bytes((path / "images.npy").read_bytes()[:-1]),
        lambda path: (path / "images.npy").write_bytes((path / "images.npy").read_bytes() + b"0"),
        lambda path: (path / "images.npy").write_bytes(b""),
        lambda path: np.save(path / "images.npy", np.zeros((10, 8, 8, 3))),
        lambda path: np.save(path / "labels.npy", np.zeros(10, np.int64)),
        lambda path: np.save(path / "labels.npy", np.array([{}]), allow_pickle=True),
        lambda path: (path / "labels.npy").unlink(),
        lambda path: (path / "set.json").write_text('{"name": "folder"'),
        lambda path: (path / "set.json").write_text("{}"),
        lambda path: (path / "set.json").write_text("[]"),
    ],
)
def test_a_damaged_prepared_set_is_named(root, damage):
    gan.data.load("folder", root)
    (name,) = prepared(root)
    damage(root / "prepared" / name)
    with pytest.raises(DataError, match=rf"{name} is damaged \(.*\); remove it and it is prepared again"):
        gan.data.load("folder", root)


def test_prepared_sets_must_be_unambiguous(root, tmp_path):
    out = tmp_path / "out"
    gan.data.prepare("folder", root, out)
    gan.data.prepare("folder", root, out, resolution=4)
    with pytest.raises(DataError, match=r"expected one prepared set of folder \(train\), found 2 in folder-4-train-"):
        gan.data.load("folder", out)
    assert gan.data.load("folder", out, resolution=4, split="validation").resolution == 4
    with pytest.raises(DataError, match=r"expected one prepared set of lysto \(train\), found 0 in folder-4-train-"):
        gan.data.load("lysto", out)


class Preparation:
    """Another process that prepares ``root`` but does not finish before there is a file ``go`` beside it."""

    def __init__(self, root: Path):
        context = multiprocessing.get_context("fork")
        self.messages = context.Queue()
        self.process = context.Process(target=self._run, args=(root,))
        self.process.start()

    def _run(self, root):
        square = folder.square

        def gated(image, size):
            wait_until((root.parent / "go").exists)
            return square(image, size)

        folder.square = gated
        handler = logging.Handler()
        handler.emit = lambda record: self.messages.put(record.getMessage())
        logging.getLogger("gan").addHandler(handler)
        self.messages.put(gan.data.load("folder", root).fingerprint)


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def half_written(root: Path) -> bool:
    return any((root / "prepared").glob(".*.partial/images.npy"))


def test_a_killed_preparation_leaves_no_prepared_set_and_can_be_repeated(root):
    other = Preparation(root)
    wait_until(lambda: half_written(root))
    other.process.kill()
    other.process.join()
    assert half_written(root) and all(name.startswith(".") for name in prepared(root))
    assert len(gan.data.load("folder", root)) == 10
    assert len(prepared(root)) == 1 and not half_written(root)


def test_two_processes_prepare_once(root):
    first = Preparation(root)
    wait_until(lambda: half_written(root))
    second = Preparation(root)
    assert "another process is at work on folder-8-train-" in second.messages.get(timeout=120)
    (root.parent / "go").touch()
    fingerprints = [each.messages.get(timeout=120) for each in (first, second)]
    for each in (first, second):
        each.process.join()
        assert each.process.exitcode == 0
    assert fingerprints == [gan.data.load("folder", root).fingerprint] * 2
    assert len(prepared(root)) == 1
