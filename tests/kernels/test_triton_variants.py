"""Few programs to compile for a training run, and no more for another batch. No GPU is needed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

pytest.importorskip("triton")

from benches.ahead_of_time import cold, recorded
from benches.variants import main, programs
from gcnn_kernels.backends.triton import pool


def test_programs_of_a_training_run(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GCNN_TUNE_DIR", str(tmp_path))
    found = programs("food101", 64)
    assert len(found) <= 69
    assert not programs("food101", 48).keys() - found.keys()
    # Of one layer, for which another algorithm is better: one for its forward pass, one for its input gradient.
    others = programs("food101", 37)
    more = Counter((others[key].name, others[key].constants["ADJOINT"]) for key in others.keys() - found.keys())
    assert len(more) <= 2 and max(more.values(), default=0) <= 1
    main(["rotmnist", "--more-batches"])
    assert "at batch 64" in capsys.readouterr().out


def test_compiling_with_an_empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    few = recorded("a maximum", pool.group_max, torch.empty(1, 16, 4, 8, 8, device="meta"))
    clock, processor = cold(few, "sm_90", processes=1)
    assert clock > 0 and processor > 0
    assert not any(tmp_path.iterdir())
