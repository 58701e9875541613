"""Where results that are worth keeping between runs are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """``$GCNN_CACHE/kind``, or else ``~/.cache/gcnn_kernels/kind``; created."""
    root = (
        os.environ.get("GCNN_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gcnn_kernels"
    )
    folder = Path(root) / kind
    folder.mkdir(parents=True, exist_ok=True)
    return folder
