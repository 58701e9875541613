"""Each data set from a few files in exactly the layout of the original."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets
from PIL import Image

import gan.data
from gan.data import DataError, download, food101, pixels, slides

IHC = Path(__file__).parents[2] / "data" / "ihc.jpg"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test reaches for the network."""

    def refuse(url, *args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(download, "download_url", refuse)


def picture(seed: int, height: int = 40, width: int = 40) -> np.ndarray:
    """uint8 ``[height, width, 3]``: smooth random colours, which JPEG hardly changes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def visible(folder: Path) -> list[str]:
    """Names in ``folder`` except of locks."""
    return sorted(path.name for path in folder.glob("*") if path.suffix != ".lock")


def pack(archive: Path, folder: Path) -> str:
    """Packs ``folder`` as the original's tarball and returns its MD5; the folder is gone afterwards."""
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    return hashlib.md5(archive.read_bytes()).hexdigest()


# --- CIFAR-10


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


# --- Food-101


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


# --- maps


@pytest.fixture
def maps_root(tmp_path):
    """``maps/train`` and ``maps/val``: the photograph (left) is red with a blue top, the map (right) green."""
    for split, count in (("train", 12), ("val", 2)):
        for i in range(1, count + 1):
            pair = np.zeros((120, 240, 3), np.uint8)
            pair[:, :120, 0] = 200
            pair[:60, :120, 2] = 10 * i
            pair[:, 120:, 1] = 100 + np.linspace(0, 100, 120, dtype=np.uint8)
            save(tmp_path / "maps" / split / f"{i}.jpg", pair, quality=100, subsampling=0)
    return tmp_path


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


# --- ANHIR and other slides


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
    run("prepare", "--dataset", "anhir", "--data", root, "--out", again, "--patch-size", 64, "--stride", 32)
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


# --- LYSTO

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


# --- PatchCamelyon


@pytest.fixture
def pcam_root(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    for split, labels in (("train", [0, 1, 1, 0, 1]), ("test", [1, 0, 0])):
        write_pcam(h5py, tmp_path / "pcam", split, rng.integers(0, 256, (len(labels), 96, 96, 3), np.uint8), labels)
    return tmp_path


def write_pcam(h5py, folder, split, images, labels):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, values in (("x", images), ("y", np.array(labels, np.uint8).reshape(-1, 1, 1, 1))):
        with h5py.File(folder / f"camelyonpatch_level_2_split_{split}_{kind}.h5", "w") as file:
            file[kind] = values


def test_pcam_equals_torchvisions(pcam_root):
    train = gan.data.load("pcam", pcam_root)
    validation = gan.data.load("pcam", pcam_root, split="validation")
    assert train.class_counts == {"normal": 2, "tumour": 3} and validation.labels.tolist() == [1, 0, 0]
    for images, split in ((train, "train"), (validation, "test")):
        theirs = torchvision.datasets.PCAM(pcam_root, split=split)
        assert len(images) == len(theirs) and images.split == ("train" if split == "train" else "validation")
        for index, (patch, label) in enumerate(theirs):
            np.testing.assert_array_equal(images.images[index], np.asarray(patch))
            assert images.labels[index] == label
    small = gan.data.load("pcam", pcam_root, resolution=32)
    np.testing.assert_array_equal(
        small.images[2], Image.fromarray(train.images[2]).resize((32, 32), Image.Resampling.LANCZOS)
    )


@pytest.mark.parametrize(
    "file, key, values, message",
    [
        ("x", "z", np.zeros((5, 96, 96, 3), np.uint8), r"split_train_x.h5: expected the key x, found z"),
        (
            "x",
            "x",
            np.zeros((5, 64, 64, 3), np.uint8),
            r"x: expected uint8 \[N, 96, 96, 3\], found uint8 \[5, 64, 64, 3\]",
        ),
        (
            "x",
            "x",
            np.zeros((4, 96, 96, 3), np.uint8),
            r"has 4 images, camelyonpatch_level_2_split_train_y.h5 5 labels",
        ),
        ("y", "y", np.full((5, 1, 1, 1), 2, np.uint8), r"split_train_y.h5: y: expected 0 and 1, found 2"),
    ],
)
def test_pcam_names_foreign_contents(pcam_root, file, key, values, message):
    import h5py

    with h5py.File(pcam_root / "pcam" / f"camelyonpatch_level_2_split_train_{file}.h5", "w") as changed:
        changed[key] = values
    with pytest.raises(DataError, match=message):
        gan.data.load("pcam", pcam_root)


def test_pcam_is_downloaded_by_torchvision_and_never_half(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py")
    complete = False

    def download(self):
        write_pcam(h5py, Path(self.root) / "pcam", self._split, np.zeros((2, 96, 96, 3), np.uint8), [0, 1])
        if not complete:
            raise RuntimeError("connection lost")

    monkeypatch.setattr(torchvision.datasets.PCAM, "_download", download)
    with pytest.raises(
        DataError, match=r"PatchCamelyon is not in .*pcam and cannot be downloaded: connection lost\nPut "
    ):
        gan.data.load("pcam", tmp_path)
    assert visible(tmp_path) == []
    complete = True
    assert gan.data.load("pcam", tmp_path).labels.tolist() == [0, 1]
    assert visible(tmp_path) == ["pcam", "prepared"]


# --- anyone's folder


def test_folder_has_one_class_per_subfolder(tmp_path):
    for label, name in enumerate(("cats", "dogs")):
        for i in range(3):
            save(tmp_path / name / "deeper" / f"{i}.png", picture(10 * label + i, 30 + i, 50))
    (tmp_path / "dogs" / "notes.txt").write_text("good ones")
    (tmp_path / ".DS_Store").write_bytes(b"")
    train = gan.data.load("folder", tmp_path, resolution=24)
    assert train.class_counts == {"cats": 3, "dogs": 3} and train.images.shape == (6, 24, 24, 3)
    middle = Image.fromarray(picture(11, 31, 50)).crop((9, 0, 40, 31)).resize((24, 24), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(train.images[4], middle)
    assert train.notes == ("1 files of other kinds ignored (.txt)",)
    (tmp_path / "dogs" / "more").symlink_to(tmp_path / "cats" / "deeper")
    assert gan.data.load("folder", tmp_path, resolution=24).class_counts == {"cats": 3, "dogs": 6}
    (tmp_path / "dogs" / "more").unlink()
    # Now that tmp_path/prepared is there, it is still no class; and validation is the training set.
    assert gan.data.load("folder", tmp_path, resolution=24, split="validation").fingerprint == train.fingerprint


def test_folder_takes_splits_and_single_classes(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            save(tmp_path / split / f"{i}.jpg", picture(i, 16, 16))
    train, validation = (gan.data.load("folder", tmp_path, split=s) for s in ("train", "validation"))
    assert len(train) == 3 and len(validation) == 2 and train.resolution == 16
    assert train.class_names == validation.class_names == (tmp_path.name,)


def test_folder_wants_the_same_classes_in_both_splits(tmp_path):
    for name in ("train/cats", "train/dogs", "val/dogs"):
        save(tmp_path / name / "0.png", picture(0, 16, 16))
    with pytest.raises(DataError, match=r"val: expected the classes of training, cats, dogs; found dogs"):
        gan.data.load("folder", tmp_path, split="validation")


def modes() -> dict[str, Image.Image]:
    rgb = picture(0, 16, 16)
    alpha = np.linspace(0, 255, 256).reshape(16, 16).astype(np.uint8)
    palette = Image.fromarray(rgb).quantize(8)
    transparent = palette.copy()
    transparent.info["transparency"] = 0
    upright = Image.Exif()
    upright[0x0112] = 6
    turned = Image.fromarray(rgb)
    turned.info["exif"] = upright.tobytes()
    return {
        "rgb.png": Image.fromarray(rgb),
        "grey.png": Image.fromarray(rgb[..., 0]),
        "bits.png": Image.fromarray(rgb[..., 0] > 99),
        "sixteen.png": Image.fromarray(rgb[..., 0].astype(np.uint16) * 257),
        "sixteen.tif": Image.fromarray(rgb[..., 0].astype(np.uint16) * 257),
        "alpha.png": Image.fromarray(np.dstack([rgb, alpha])),
        "greyalpha.png": Image.fromarray(np.dstack([rgb[..., 0], alpha]), "LA"),
        "palette.png": palette,
        "transparent.png": transparent,
        "cmyk.jpg": Image.fromarray(rgb).convert("CMYK"),
        "phone.jpg": turned,
    }


def test_folder_converts_every_mode_and_counts(tmp_path):
    for name, image in modes().items():
        exif = {"exif": image.info["exif"]} if "exif" in image.info else {}
        image.save(tmp_path / name, quality=100, **exif)
    images = gan.data.load("folder", tmp_path)
    by_name = dict(zip(sorted(modes()), images.images, strict=True))
    rgb = picture(0, 16, 16)
    grey = np.repeat(rgb[..., :1], 3, axis=2)
    np.testing.assert_array_equal(by_name["rgb.png"], rgb)
    for name in ("grey.png", "sixteen.png", "sixteen.tif"):
        np.testing.assert_array_equal(by_name[name], grey, err_msg=name)
    alpha = np.linspace(0, 255, 256).reshape(16, 16, 1).astype(np.uint8) / 255
    for name, colours in (("alpha.png", rgb), ("greyalpha.png", grey)):
        np.testing.assert_allclose(by_name[name], colours * alpha + 255 * (1 - alpha), atol=1, err_msg=name)
    assert set(images.notes) == {
        "4 images grey, copied to three channels",
        "2 images 16 bits reduced to 8",
        "3 images transparency laid on white",
        "1 images converted from a palette",
        "1 images converted from CMYK",
        "1 images turned upright as their EXIF orientation says",
    }
    turned = np.abs(by_name["phone.jpg"].astype(int) - np.rot90(rgb, -1)).mean()
    assert turned < 5 < 20 < np.abs(by_name["phone.jpg"].astype(int) - rgb).mean()


def test_folder_names_every_unreadable_file(tmp_path):
    for i in range(4):
        save(tmp_path / "cells" / f"{i}.png", picture(i, 16, 16))
    whole = (tmp_path / "cells" / "1.png").read_bytes()
    (tmp_path / "cells" / "1.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cells" / "2.png").write_bytes(b"<html>not found</html>")
    Image.fromarray(np.zeros((16, 16), np.float32)).save(tmp_path / "cells" / "float.tif")
    with pytest.raises(DataError) as error:
        gan.data.load("folder", tmp_path)
    message = str(error.value)
    assert "3 files cannot be read as images:" in message and "--skip-unreadable" in message
    for line in (
        "1.png: ",
        "2.png: cannot identify image file",
        "float.tif: floating-point pixels have no defined range",
    ):
        assert line in message
    assert not list((tmp_path / "prepared").glob("*/"))
    kept = gan.data.prepare("folder", tmp_path, skip_unreadable=True)
    assert len(kept) == 2 and "left out: 3 files cannot be read" in kept.notes[0]
    assert gan.data.load("folder", tmp_path).fingerprint == kept.fingerprint


def test_folder_errors_name_the_folder(tmp_path):
    with pytest.raises(
        DataError, match=r"nowhere: expected a folder with one subfolder of images per class, found none"
    ):
        gan.data.load("folder", tmp_path / "nowhere", resolution=8)
    with pytest.raises(DataError, match=r": no images; expected .bmp, .gif, "):
        gan.data.load("folder", tmp_path, resolution=8)
    save(tmp_path / "cats" / "0.png", picture(0, 20, 30))
    (tmp_path / "dogs").mkdir()
    (tmp_path / "cats" / "1.png").write_text("nothing")
    (tmp_path / "cats" / "0.png").rename(tmp_path / "0.kept")
    with pytest.raises(DataError, match=r"none of the 1 images can be read; the last: cannot identify image file"):
        gan.data.load("folder", tmp_path / "cats")
    (tmp_path / "cats" / "1.png").unlink()
    (tmp_path / "0.kept").rename(tmp_path / "cats" / "0.png")
    with pytest.raises(DataError, match=r": no image of the classes dogs"):
        gan.data.load("folder", tmp_path, resolution=8)
    save(tmp_path / "dogs" / "0.png", picture(0))
    with pytest.raises(DataError, match=r"not all squares of one size \(30x20 \(1\), 40x40 \(1\).*choose --resolution"):
        gan.data.load("folder", tmp_path)
    save(tmp_path / "stray.png", picture(0))
    with pytest.raises(DataError, match=r"holds 1 images \(stray.png, ...\) and the subfolders cats, dogs; expected"):
        gan.data.load("folder", tmp_path, resolution=8)
    with pytest.raises(ValueError, match=r"resolution: expected a positive number of pixels, got 0"):
        gan.data.load("folder", tmp_path, resolution=0)


def test_sixteen_bits_are_rounded_over_the_full_range():
    values = np.array([[0, 128, 129, 257 * 7 + 128, 257 * 7 + 129, 65535]], np.uint16)
    rgb, _ = pixels.to_rgb(Image.fromarray(values))
    assert np.asarray(rgb)[0, :, 0].tolist() == [0, 0, 1, 7, 8, 255]


# --- the command


def run(*arguments):
    from gan.data.__main__ import main

    main([str(argument) for argument in arguments])


def test_commands_prepare_and_show(tmp_path, capsys):
    for i, name in enumerate(("cats", "dogs")):
        for j in range(3):
            save(tmp_path / "mine" / name / f"{j}.png", picture(10 * i + j, 30, 30))
    run("prepare", "--dataset", "folder", "--data", tmp_path / "mine", "--resolution", 8, "--out", tmp_path / "ready")
    out = capsys.readouterr().out
    assert out.startswith("folder (train): 6 images 8x8x3, 2 classes") and "cats 3, dogs 3" in out
    run("show", "--dataset", "folder", "--data", tmp_path / "ready", "--out", tmp_path / "sheets" / "reals.png")
    with Image.open(tmp_path / "sheets" / "reals.png") as sheet:
        assert sheet.size == (12 * 8, 10 * 8)
    run("show", "--dataset", "digits", "--split", "validation", "--out", tmp_path / "digits.png")
    assert "digits (validation): 2880 images" in capsys.readouterr().out
    with Image.open(tmp_path / "digits.png") as sheet:
        assert sheet.mode == "L"


def test_a_sheet_of_pairs_shows_map_and_photograph(maps_root):
    out = maps_root / "reals.png"
    run("show", "--dataset", "maps", "--data", maps_root, "--resolution", 16, "--out", out)
    with Image.open(out) as sheet:
        assert sheet.size == (12 * 32, 10 * 16)
        pixels = np.asarray(sheet)
    assert pixels[:, :16, 1].min() > 90 and pixels[:, 16:32, 1].max() < 30


def test_commands_end_with_the_reason(tmp_path):
    with pytest.raises(SystemExit, match=r"gan.data: .*training.h5: no such file"):
        run("prepare", "--dataset", "lysto", "--data", tmp_path)
    with pytest.raises(SystemExit, match=r"gan.data: out: digits is kept in memory"):
        run("prepare", "--dataset", "digits", "--out", tmp_path)
    for extra in (["--dataset", "folder", "--out", tmp_path], ["--dataset", "anhir"]):
        with pytest.raises(SystemExit, match="2"):
            run("prepare", *extra, "--stride", 8)
