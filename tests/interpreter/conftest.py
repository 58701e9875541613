"""These tests need TRITON_INTERPRET=1 from the start of the process; tests/test_triton_interpreter.py runs them so."""

from __future__ import annotations

import os

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """Uninitialised memory holds NaN (255 in integers), so that a number nobody wrote cannot go unnoticed."""
    empty = torch.empty

    def poisoned(*args, **kwargs):
        tensor = empty(*args, **kwargs)
        if tensor.is_meta:
            return tensor
        return tensor.fill_(float("nan") if tensor.is_floating_point() else 255)

    monkeypatch.setattr(torch, "empty", poisoned)


@pytest.fixture(autouse=True)
def shipped_tables(monkeypatch, tmp_path):
    monkeypatch.setenv("GCNN_TUNE_DIR", str(tmp_path))
