"""Image files that decoders read in ways of their own: transparent greys, 32-bit integers, damaged EXIF, pages."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from gan.data import pixels
from gan.data.pixels import opened, to_rgb


def png(width: int, depth: int, colour: int, row: bytes, transparent: bytes) -> bytes:
    """A PNG file of one row, written by hand: Pillow cannot save all of these."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"tRNS", transparent) + data + chunk(b"IEND", b"")


def read(file: bytes):
    rgb, remarks = to_rgb(Image.open(io.BytesIO(file)))
    return np.asarray(rgb)[0].tolist(), remarks


@pytest.mark.parametrize(
    ("depth", "row", "transparent", "grey"),
    [
        (1, bytes([0b01010000]), 0, [255, 255, 255, 255]),
        (2, bytes([0b00011011]), 2, [0, 85, 255, 255]),
        (4, bytes([0x07, 0x9F]), 7, [0, 255, 153, 255]),
        (8, bytes([0, 7, 9, 255]), 7, [0, 255, 9, 255]),
        (16, struct.pack(">4H", 300, 0, 301, 65535), 300, [255, 0, 1, 255]),
    ],
)
def test_a_transparent_grey_is_white(depth, row, transparent, grey):
    pixels, remarks = read(png(4, depth, 0, row, struct.pack(">H", transparent)))
    assert pixels == [[value] * 3 for value in grey]
    assert "transparency laid on white" in remarks and "grey, copied to three channels" in remarks


@pytest.mark.parametrize(
    ("depth", "row"), [(8, bytes([1, 2, 3, 4, 5, 6])), (16, struct.pack(">6H", 1, 2, 3, 1024, 0, 0))]
)
def test_a_transparent_colour_is_white(depth, row):
    pixels, remarks = read(png(2, depth, 2, row, struct.pack(">3H", 1, 2, 3)))
    assert pixels[0] == [255, 255, 255] and pixels[1][0] == 4 and remarks == ["transparency laid on white"]


def test_integers_of_32_bits_are_refused():
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 255]], np.int32)).save(file, "tiff")
    with pytest.raises(ValueError, match="32-bit integers have no defined range"):
        read(file.getvalue())


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_a_damaged_exif_block_is_left_out(kind):
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(file, kind, exif=b"Exif\0\0garbage!!!")
    pixels, remarks = read(file.getvalue())
    assert pixels == [[9, 9, 9]] * 8
    assert kind == "jpeg" or remarks == ["with an unreadable EXIF block, which is left out"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (3, 5, 3), np.uint8))
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    image.save(file, "png", exif=exif)
    rgb, _ = to_rgb(Image.open(io.BytesIO(file.getvalue())))
    mirrored, quarters = orientation in (2, 4, 5, 7), {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}.get(orientation, 0)
    expected = np.asarray(image)[:, ::-1] if mirrored else np.asarray(image)
    np.testing.assert_array_equal(np.asarray(rgb), np.rot90(expected, quarters))


@pytest.mark.parametrize("kind", ["tiff", "gif", "webp"])
def test_further_pages_are_mentioned(kind):
    file = io.BytesIO()
    pages = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (9, 200)]
    pages[0].save(file, kind, save_all=True, append_images=pages[1:])
    pixels, remarks = read(file.getvalue())
    assert abs(pixels[0][0] - 9) < 3 and "the first of several in their file" in remarks


def test_an_image_that_looks_like_a_decompression_bomb_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "large.png")
    with opened(tmp_path / "large.png") as image:
        assert to_rgb(image)[0].getpixel((39, 39)) == (255, 0, 0)
    assert Image.MAX_IMAGE_PIXELS == 100
    monkeypatch.setattr(pixels, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="40 x 40 pixels are too many, 1,000 the most"), opened(tmp_path / "large.png"):
        pass


def test_large_images_are_opened_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for i in range(4):
        Image.new("RGB", (40, 40), "red").save(tmp_path / f"{i}.png")
    together, most = 0, 0

    def make(image):
        return np.asarray(image), []

    class Watched:
        def __init__(self, lock):
            self.lock = lock

        def __enter__(self):
            nonlocal together, most
            self.lock.acquire()
            together += 1
            most = max(most, together)

        def __exit__(self, *error):
            nonlocal together
            together -= 1
            self.lock.release()

    monkeypatch.setattr(pixels, "_LARGE", Watched(pixels._LARGE))
    rows = list(pixels.decode([(tmp_path / f"{i}.png", 0) for i in range(4)], make))
    assert [row.pixels.shape for row in rows] == [(40, 40, 3)] * 4
    assert most == 1
