"""python -m gan.data prepare | show."""

from __future__ import annotations

import numpy as np
import pytest
from picture_files import picture, save
from PIL import Image

from gan.commands.data import main


def run(*arguments):
    assert main([str(argument) for argument in arguments]) == 0


def test_prepare_and_show(tmp_path, capsys):
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


def test_errors_end_with_the_reason(tmp_path, capsys):
    for arguments, reason in (
        (["--dataset", "lysto", "--data", tmp_path], "training.h5: no such file"),
        (["--dataset", "digits", "--out", tmp_path], "error: out: digits is kept in memory"),
        (["--dataset", "folder", "--out", tmp_path, "--stride", 8], "error: stride: only anhir is cut into patches"),
    ):
        assert main(["prepare", *map(str, arguments)]) == 1
        assert reason in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        run("prepare", "--dataset", "anhir", "--stride", 8)
