"""What the tests of the data sets share."""

from __future__ import annotations

import numpy as np
import pytest
from picture_files import save

from gan.data import download


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test reaches for the network."""

    def refuse(url, *args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(download, "download_url", refuse)


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
