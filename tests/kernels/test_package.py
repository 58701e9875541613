"""The package as installed: the report, and imports where a binary is missing or stale."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gcnn_kernels.backends import BACKENDS, binaries

ROOT = Path(__file__).resolve().parents[2]


def test_compiled_kernels_are_in_use():
    """Also from a checkout, whose folder hides the installed package."""
    assert BACKENDS["cpu"].unavailable() is None


def info(**environment):
    return subprocess.run(
        [sys.executable, "-m", "gcnn_kernels.info"],
        capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, **environment},
    ).stdout  # fmt: skip


def test_info_names_versions_backends_and_reasons():
    text = info()
    for word in ("torch", "triton", "_cpu", "_cuda", "reference   usable", "group batch norm"):
        assert word in text


def test_info_names_the_instruction_set_the_threads_and_the_compiler():
    text = info(GCNN_CPU_ISA="portable", OMP_NUM_THREADS="1")
    assert "CPU         instruction set portable, 1 thread\n" in text
    assert re.search(r"compiled by (GCC|clang) \d+\.", text)
    assert "GCNN_CPU_ISA=sse9 is not usable" in info(GCNN_CPU_ISA="sse9")


def test_stale_binary_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "gcnn_kernels"
    package.mkdir()
    (tmp_path / "csrc").mkdir()
    (tmp_path / "csrc" / "new.cpp").write_text("int changed;")
    (package / "_cpu.abi3.so").write_bytes(b"compiled from something else")
    monkeypatch.setattr(binaries, "_PACKAGE", package)
    monkeypatch.setattr(binaries, "_folders", lambda: [package])
    path, reason = binaries.load.__wrapped__("_cpu")
    assert path is None and "was compiled from other sources" in reason and "pip install ." in reason


def test_unloadable_binary_keeps_its_reason(tmp_path, monkeypatch):
    (tmp_path / "_cpu.abi3.so").write_bytes(b"not an ELF file")
    monkeypatch.setattr(binaries, "_PACKAGE", tmp_path)
    monkeypatch.setattr(binaries, "_folders", lambda: [tmp_path])
    path, reason = binaries.load.__wrapped__("_cpu")
    assert path is None and "does not load under torch" in reason


@pytest.mark.parametrize("name", ["_cpu", "_cuda"])
def test_missing_binary(tmp_path, monkeypatch, name):
    monkeypatch.setattr(binaries, "_folders", lambda: [tmp_path])
    assert binaries.load.__wrapped__(name) == (None, "it was not compiled (run `pip install .`)")


IMPORTED = """
import sys, torch
before = set(sys.modules)
import gcnn_kernels
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_import_brings_only_what_the_kernels_need():
    """What `gan` needs, and what takes seconds to import, is left to those who use it."""
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True, cwd=ROOT)
    imported = set(done.stdout.split())
    assert "gcnn_kernels" in imported
    assert not imported & {"matplotlib", "torchvision", "sklearn", "scipy", "PIL", "torch_fidelity", "triton", "gan"}
