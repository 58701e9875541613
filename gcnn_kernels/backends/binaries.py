"""Finding and loading the compiled kernels, and keeping the reason where that fails.

A binary lies beside this package where it was installed. In a checkout the local folder hides the installed package, so
the installed distributions' folders are searched too. A binary made from other sources than the checkout's is refused:
its results would not be those of the code being read.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path

import torch

_PACKAGE = Path(__file__).resolve().parents[1]


def source_hash(csrc: Path) -> str:
    """Hash of the C++ and CUDA sources; setup.py compiles it into the binaries."""
    digest = hashlib.sha256()
    for path in sorted(p for p in csrc.rglob("*") if p.suffix in (".cpp", ".cu", ".cuh", ".h")):
        digest.update(path.relative_to(csrc).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def load(name: str) -> tuple[Path | None, str | None]:
    """Loads ``gcnn_kernels/<name>.abi3.so`` and so registers its operators.

    Args:
        name: "_cpu" or "_cuda".

    Returns:
        the file and None, or None and the reason why it cannot be used.
    """
    files = [path for folder in _folders() if (path := folder / f"{name}.abi3.so").exists()]
    if not files:
        notes = [path for folder in _folders() if (path := folder / f"{name}.txt").exists()]  # written by setup.py
        reason = notes[0].read_text().strip() if notes else "run `pip install .`"
        return None, f"it was not compiled ({reason})"
    csrc = _PACKAGE.parent / "csrc"
    expected = source_hash(csrc) if csrc.is_dir() else None
    reasons = []
    for path in files:
        if expected is not None and expected.encode() not in path.read_bytes():
            reasons.append(f"{path} was compiled from other sources than {csrc} (run `pip install .` again)")
            continue
        try:
            torch.ops.load_library(str(path))
        except (OSError, RuntimeError) as error:
            reasons.append(f"{path} does not load under torch {torch.__version__}: {error.__cause__ or error}")
            continue
        return path, None
    return None, "; ".join(reasons)


def _folders():
    yield _PACKAGE
    for distribution in importlib.metadata.distributions(name="gcnn_kernels"):
        folder = Path(distribution.locate_file("gcnn_kernels")).resolve()
        if folder != _PACKAGE:
            yield folder
