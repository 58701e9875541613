"""The cuda backend's predicates, none of which needs a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import gcnn_kernels as gk
from gcnn_kernels.backends import BACKENDS, cuda

CUDA = BACKENDS["cuda"]


@pytest.fixture
def old_gpu(monkeypatch):
    """A GPU for which the binary holds no code."""
    monkeypatch.setattr(cuda.binaries, "load", lambda name: (None, None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (6, 1))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "GTX 1080")
    monkeypatch.setattr(torch.ops, "gcnn_cuda", SimpleNamespace(runs_on=lambda index: False), raising=False)
    cuda._unsupported_device.cache_clear()
    yield
    cuda._unsupported_device.cache_clear()


def test_reasons_for_a_tensor(old_gpu):
    assert CUDA.unavailable() is None
    assert CUDA.unsupported(torch.device("cpu"), torch.float32) == "it runs on CUDA devices, not on cpu"
    device = torch.device("cuda", 0)
    assert "not torch.float8_e5m2" in CUDA.unsupported(device, torch.float8_e5m2)
    assert CUDA.unsupported(device, torch.float32) == (
        "it was compiled without code for GTX 1080, compute capability 6.1 "
        "(run `TORCH_CUDA_ARCH_LIST=6.1 pip install .`)"
    )


def test_a_tensor_on_another_device_is_an_error(old_gpu):
    with pytest.raises(RuntimeError, match=r"'cuda' cannot run pool on a torch.float32 tensor on cpu: it runs on CUDA"):
        gk.group_max_pool(torch.zeros(1, 2, 4, 3, 3), backend="cuda")


def test_without_a_gpu_or_a_binary(monkeypatch):
    monkeypatch.setattr(cuda.binaries, "load", lambda name: (None, "it was not compiled (GCNN_CUDA=0)"))
    with pytest.raises(RuntimeError, match=r"'cuda' cannot run conv .*it was not compiled \(GCNN_CUDA=0\)"):
        gk.group_conv2d(torch.zeros(1, 2, 4, 5, 5), torch.zeros(3, 2, 4, 3, 3), backend="cuda")
    monkeypatch.setattr(cuda.binaries, "load", lambda name: (None, None))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert CUDA.unavailable() == "torch.cuda.is_available() is False"
