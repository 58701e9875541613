"""The picture of a run's curves."""

from __future__ import annotations

from PIL import Image

from gan.runs.curves import write_curves


def test_a_panel_for_what_was_measured(tmp_path):
    losses = [{"iteration": i, "loss_d": 1 / i, "loss_g": 1.0} for i in range(1, 4)]
    evaluations = [{"iteration": 3, "fid-10-p4cnn-0": 2.5}]
    widths = []
    for records in (losses, losses + evaluations, []):
        write_curves(tmp_path / "curves.png", records, real_distance=0.1)
        widths.append(Image.open(tmp_path / "curves.png").width)
    assert widths == [660, 1320, 660]
