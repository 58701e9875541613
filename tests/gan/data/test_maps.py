"""Pairs of maps and photographs: from a few files in exactly the layout of the original."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from picture_files import pack, picture, save, visible

import gan.data
from gan.data import DataError, download


def test_maps_are_pairs_of_map_and_photograph(maps_root):
    train = gan.data.load("maps", maps_root, resolution=64)
    validation = gan.data.load("maps", maps_root, split="validation", resolution=64)
    assert train.images.shape == (12, 72, 72, 6) and validation.images.shape == (2, 64, 64, 6)
    assert train.resolution == validation.resolution == 64 and train.channels == 3
    street, photo = train.batch([10, 0])
    assert street.shape == photo.shape == (2, 64, 64, 3) and street.dtype == torch.uint8
    assert photo[:, :20, :, 2].float().mean(dim=(1, 2)).round().tolist() == pytest.approx([110, 10], abs=4)
    assert street[..., 1].min() > 90 and photo[..., 1].max() < 20
    np.testing.assert_array_equal(validation.batch([0])[1][0], validation.images[0, ..., 3:])


def test_maps_are_cut_alike_and_reproducibly(maps_root):
    train = gan.data.load("maps", maps_root, resolution=64)
    indices = np.arange(12).repeat(20)
    places = train.draw_places(len(indices), torch.Generator().manual_seed(1))
    assert torch.equal(places, train.draw_places(len(indices), torch.Generator().manual_seed(1)))
    street, photo = train.batch(indices, places)
    both = torch.cat([street, photo], dim=3)
    seen = set()
    for index, cut in zip(indices, both.numpy(), strict=True):
        windows = {
            (top, left, mirror): train.images[index, top : top + 64, left : left + 64][:, :: -1 if mirror else 1]
            for top in range(9)
            for left in range(9)
            for mirror in (False, True)
        }
        matching = {place for place, window in windows.items() if np.array_equal(window, cut)}
        assert matching
        seen |= matching if len(matching) == 1 else set()
    assert {left for _, left, _ in seen} == set(range(9)) and {mirror for *_, mirror in seen} == {False, True}


def test_maps_on_a_device_are_cut_the_same_way(maps_root):
    train = gan.data.load("maps", maps_root, resolution=64)
    for places in (None, torch.tensor([[0, 5, 1], [8, 2, 0]])):
        for part, expected in zip(
            train.resident("cpu").batch([3, 1], places), train.batch([3, 1], places), strict=True
        ):
            assert torch.equal(part, expected)


def test_photographs_are_a_set_of_their_own(maps_root):
    train = gan.data.load("maps", maps_root, resolution=64)
    photographs = train.targets
    assert photographs.images.shape == (12, 64, 64, 3) and np.shares_memory(photographs.images, train.images)
    assert torch.equal(photographs.batch([3, 1])[0], train.batch([3, 1])[1])
    assert photographs.fingerprint != train.fingerprint


def test_maps_are_unpacked_from_their_tarball(maps_root):
    archive = maps_root / "maps.tar.gz"
    pack(archive, maps_root / "maps")
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"maps.tar.gz: cannot be unpacked"):
        gan.data.load("maps", maps_root)
    assert visible(maps_root) == ["maps.tar.gz"]
    archive.write_bytes(whole)
    assert len(gan.data.load("maps", maps_root, split="validation")) == 2


def test_maps_are_downloaded_once_and_never_half(maps_root, monkeypatch):
    pack(maps_root / "maps.tar.gz", maps_root / "maps")
    elsewhere = (maps_root / "maps.tar.gz").rename(maps_root / "served.tar.gz")
    calls = []

    def cut_off(url, root, filename, md5):
        calls.append(url)
        (Path(root) / filename).write_bytes(elsewhere.read_bytes()[:100])
        raise OSError("connection reset")

    def whole(url, root, filename, md5):
        calls.append(url)
        assert not (Path(root) / filename).exists()
        shutil.copy(elsewhere, Path(root) / filename)

    monkeypatch.setattr(download, "download_url", cut_off)
    with pytest.raises(DataError, match="cannot be downloaded: connection reset"):
        gan.data.load("maps", maps_root)
    monkeypatch.setattr(download, "download_url", whole)
    assert len(gan.data.load("maps", maps_root)) == 12
    assert len(gan.data.load("maps", maps_root, split="validation")) == 2
    assert len(calls) == 2 and all(url.endswith("pix2pix/datasets/maps.tar.gz") for url in calls)
    assert visible(maps_root) == ["maps", "maps.tar.gz", "prepared", "served.tar.gz"]


def test_maps_refuse_single_pictures(maps_root):
    save(maps_root / "maps" / "val" / "3.jpg", picture(0))
    with pytest.raises(DataError, match=r"val/3.jpg: expected two squares side by side, found 40x40"):
        gan.data.load("maps", maps_root, split="validation")
