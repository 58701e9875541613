"""Every Triton kernel's values without a GPU: runs each file of the folder interpreter with Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

triton = pytest.importorskip("triton")
FOLDER = Path(__file__).parent / "interpreter"


@pytest.mark.skipif(
    triton.__version__.startswith("3.6.") and tuple(map(int, numpy.__version__.split(".")[:2])) >= (2, 4),
    reason="the interpreter of Triton 3.6 turns arrays of one element into ints, which NumPy 2.4 refuses",
)
@pytest.mark.parametrize("file", sorted(path.name for path in FOLDER.glob("test_*.py")))
def test_kernels_in_the_interpreter(file):
    """In a process of its own: whether kernels are interpreted or compiled is fixed when they are imported."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", str(FOLDER / file), "-q", "-x", "-p", "no:cacheprovider"],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        cwd=FOLDER.parents[2],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
