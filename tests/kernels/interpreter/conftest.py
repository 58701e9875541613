"""These tests need TRITON_INTERPRET=1 from the start of the process: ../test_triton_interpreter.py runs them so."""

from __future__ import annotations

import inspect
import os

import numpy as np
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


@pytest.fixture(autouse=True)
def addresses_inside(monkeypatch):
    """Every address that a kernel reads or writes lies in one of its tensors, also where the value would not matter."""
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    given = []
    call = interpreter.GridExecutor.__call__

    def note(executor, *args, **kwargs):
        given[:] = [extent(t) for t in args if isinstance(t, torch.Tensor)]
        return call(executor, *args, **kwargs)

    def checked(access):
        mask_at = list(inspect.signature(access).parameters).index("mask")

        def run(builder, pointers, *args):
            used = pointers.data[np.broadcast_to(args[mask_at - 2].data, pointers.data.shape)]
            if used.size:
                first, last = int(used.min()), int(used.max()) + pointers.get_element_ty().primitive_bitwidth // 8
                assert any(start <= first and last <= end for start, end in given), "outside all tensors"
            return access(builder, pointers, *args)

        return run

    monkeypatch.setattr(interpreter.GridExecutor, "__call__", note)
    for name in ("create_masked_load", "create_masked_store"):
        access = getattr(interpreter.InterpreterBuilder, name)
        monkeypatch.setattr(interpreter.InterpreterBuilder, name, checked(access))


def extent(tensor):
    """First address and the one behind the last."""
    last = sum((n - 1) * abs(s) for n, s in zip(tensor.shape, tensor.stride(), strict=True)) if tensor.numel() else -1
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()
