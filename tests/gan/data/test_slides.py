"""ANHIR and other slides: from a few files in exactly the layout of the original."""

from __future__ import annotations

import logging
import shutil

import numpy as np
import pytest
from picture_files import IHC, save
from PIL import Image

import gan.data
from gan.commands.data import main
from gan.data import DataError, slides


def slide(seed: int, height: int, width: int, turns: int = 0) -> np.ndarray:
    """Glass with one square of tissue, the real crop after quarter turns, which is darker for a higher seed."""
    glass = np.full((height, width, 3), 235, np.uint8)
    glass += np.random.default_rng(seed).integers(0, 6, glass.shape, dtype=np.uint8)
    with Image.open(IHC) as image:
        tissue = np.rot90(np.asarray(image, np.int16), turns)
    glass[128:384, 128:384] = np.clip(tissue // 2 + 10 * (4 - seed), 0, 255)
    return glass


@pytest.fixture(scope="module")
def anhir_original(tmp_path_factory):
    """Two lesions in one or two scales, five stains each, and landmark files, named as in the challenge."""
    root = tmp_path_factory.mktemp("anhir")
    for turns, (lesion, scale, extension) in enumerate(((1, 5, "jpg"), (1, 25, "png"), (3, 5, "jpg"))):
        for seed, stain in enumerate(("CD31-3", "Cc10-5", "He", "Ki67-7", "proSPC-4")):
            name = f"29-041-Izd2-w35-{stain}-les{lesion}"
            path = root / f"lung-lesion_{lesion}" / f"scale-{scale}pc" / f"{name}.{extension}"
            save(path, slide(seed, 600, 530, turns))
            path.with_suffix(".csv").write_text(",X,Y\n1,10,10\n")
    save(root / "COAD_01" / "scale-10pc" / "S1.jpg", slide(0, 400, 400))
    return root


@pytest.fixture
def anhir_root(anhir_original, tmp_path):
    return shutil.copytree(anhir_original, tmp_path / "anhir")


def test_anhir_cuts_the_foreground_into_patches(anhir_root):
    train, validation = (gan.data.load("anhir", anhir_root, split=s) for s in ("train", "validation"))
    assert train.class_names == ("Cc10", "CD31", "H&E", "Ki67", "proSPC")
    assert train.images.shape[1:] == (128, 128, 3)
    # 15 slides with 2x2 patches of tissue; dilation by 16 pixels reaches 12% of the eight patches beside them.
    assert len(train) + len(validation) == 15 * 12 and len(train) == 135
    assert all(25 <= count <= 29 for count in train.class_counts.values())
    tissue = np.concatenate([train.images, validation.images]).mean(axis=(1, 2, 3)) < 220
    assert tissue.sum() == 15 * 4
    assert not {i.tobytes() for i in train.images} & {i.tobytes() for i in validation.images}
    assert train.notes == ("128x128 foreground patches of 15 slides, 128 pixels apart",)


def test_anhir_labels_are_the_stains(anhir_root):
    sets = [gan.data.load("anhir", anhir_root, split=s) for s in ("train", "validation")]
    images, labels = (np.concatenate(parts) for parts in zip(*((s.images, s.labels) for s in sets), strict=True))
    tissue = images.mean(axis=(1, 2, 3)) < 220
    brightness = [
        images[tissue & (labels == sets[0].class_names.index(name))].mean()
        for name in ("CD31", "Cc10", "H&E", "Ki67", "proSPC")
    ]
    assert np.allclose(np.diff(brightness), -10, atol=1), brightness


def test_anhir_at_64_is_the_same_patches_resampled(anhir_root):
    large, small = gan.data.load("anhir", anhir_root), gan.data.load("anhir", anhir_root, resolution=64)
    assert small.images.shape == (135, 64, 64, 3)
    np.testing.assert_array_equal(large.labels, small.labels)
    resized = Image.fromarray(large.images[5]).resize((64, 64), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(small.images[5], resized)


def test_anhir_names_a_slide_of_unknown_stain(anhir_root):
    save(anhir_root / "lung-lesion_3" / "scale-5pc" / "29-041-Izd2-w35-PAS-les3.jpg", slide(0, 400, 400))
    with pytest.raises(DataError, match=r"w35-PAS-les3.jpg: expected a file name with one of the stains cc10, "):
        gan.data.load("anhir", anhir_root)


def test_anhir_names_a_damaged_slide(anhir_root):
    path = anhir_root / "lung-lesion_1" / "scale-5pc" / "29-041-Izd2-w35-He-les1.jpg"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"He-les1.jpg: cannot be read as a slide: image file is truncated"):
        gan.data.load("anhir", anhir_root)
    assert not list((anhir_root / "prepared").glob("*/"))


def test_one_picture_is_cut_into_overlapping_patches(tmp_path):
    root, out = tmp_path / "mine", tmp_path / "patches"
    save(root / "slide.png", np.asarray(Image.open(IHC)))
    train = gan.data.prepare("anhir", root, out, patch_size=64, stride=32)
    validation = gan.data.prepare("anhir", root, out, split="validation", patch_size=64, stride=32)
    with Image.open(IHC) as image:
        corners = slides.grid(image, 64, 32)
    assert len(train) + len(validation) == len(corners) > 40 and train.class_names == ("mine",)
    assert gan.data.load("anhir", out).fingerprint == train.fingerprint
    again = tmp_path / "again"
    command = ["prepare", "--dataset", "anhir", "--data", root, "--out", again, "--patch-size", 64, "--stride", 32]
    assert main([str(part) for part in command]) == 0
    assert gan.data.load("anhir", again).fingerprint == train.fingerprint
    with pytest.raises(DataError, match=r"expected one prepared set of anhir \(train, 128x128\), found 0 in anhir-64-"):
        gan.data.load("anhir", out, resolution=128)


def test_foreground_is_the_dilated_dark_cluster():
    pixels = np.full((160, 240, 3), 240, np.uint8)
    pixels[64:96, 80:160] = (120, 60, 90)
    mask = slides.foreground(Image.fromarray(pixels))
    rows, columns = np.mgrid[:20, :30]
    # 4x10 mask pixels of tissue and everything within two of them.
    near = np.hypot(
        np.maximum(np.maximum(8 - rows, rows - 11), 0), np.maximum(np.maximum(10 - columns, columns - 19), 0)
    )
    np.testing.assert_array_equal(mask, near <= 2)
    assert not slides.foreground(Image.new("RGB", (64, 64), "white")).any()


def test_two_clusters_are_those_of_k_means():
    from sklearn.cluster import KMeans

    with Image.open(IHC) as image:
        colours = np.asarray(image.reduce(8), np.float32).reshape(-1, 3)
    clusters = KMeans(2, n_init=5, random_state=0).fit(colours)
    darker = clusters.labels_ == clusters.cluster_centers_.sum(axis=1).argmin()
    assert 0.2 < darker.mean() < 0.8
    assert (slides.darker_cluster(colours) == darker).mean() > 0.995


def test_a_slide_without_tissue_is_reported(tmp_path, caplog):
    save(tmp_path / "tissue" / "a.png", slide(0, 400, 400))
    save(tmp_path / "empty" / "b.png", np.full((300, 300, 3), 255, np.uint8))
    with (
        caplog.at_level(logging.WARNING, "gan.data"),
        pytest.raises(DataError, match=r"anhir \(train\) has no image of empty"),
    ):
        gan.data.load("anhir", tmp_path)
    assert "empty/b.png: no 128x128 patch with 10% foreground" in caplog.text
