"""Anyone's folder: from a few files in exactly the layout of the original."""

from __future__ import annotations

import numpy as np
import pytest
from picture_files import picture, save
from PIL import Image

import gan.data
from gan.data import DataError, pixels


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
    rotated = Image.fromarray(rgb)
    rotated.info["exif"] = upright.tobytes()
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
        "phone.jpg": rotated,
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
        "1 images rotated upright as their EXIF orientation says",
    }
    rotated = np.abs(by_name["phone.jpg"].astype(int) - np.rot90(rgb, -1)).mean()
    assert rotated < 5 < 20 < np.abs(by_name["phone.jpg"].astype(int) - rgb).mean()


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
