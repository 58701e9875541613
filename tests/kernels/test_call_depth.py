"""How deep a call goes before it leaves this package; the triton backend's is in interpreter/test_conv.py."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest
import torch

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS

PACKAGE = Path(gk.__file__).parent


@pytest.mark.skipif(BACKENDS["cpu"].unavailable() is not None, reason=str(BACKENDS["cpu"].unavailable()))
def test_at_most_five_frames_between_a_module_and_the_binary(monkeypatch):
    found = []

    def record(*args):
        found.extend(f.name for f in traceback.extract_stack() if Path(f.filename).is_relative_to(PACKAGE))

    monkeypatch.setattr(torch.ops.gcnn_cpu, "planar", record)
    gk.nn.GroupConv2d(2, 3, 3)(torch.randn(1, 2, 4, 5, 5))
    assert len(found) - 1 - found.index("forward") <= 5, found
