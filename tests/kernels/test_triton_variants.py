"""Few programs to compile for a training run, and none for another batch. No GPU is needed."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from benches.variants import main, programs


def test_programs_of_a_training_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GCNN_TUNE_DIR", str(tmp_path))
    found = programs("food101", 64)
    assert len(found) <= 31
    assert not programs("food101", 37).keys() - found.keys()
    main(["rotmnist", "--more-batches"])
    assert "at batch 64" in capsys.readouterr().out
