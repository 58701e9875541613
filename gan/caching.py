"""Where results that are worth keeping between runs are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """``$GCNN_CACHE/kind``, or else ``~/.cache/gcnn_kernels/kind``; created.

    Raises:
        ValueError: if it cannot be made or written; the message names GCNN_CACHE.
    """
    root = (
        os.environ.get("GCNN_CACHE")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gcnn_kernels"
    )
    folder = Path(root) / kind
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error.strerror) from error
    if not os.access(folder, os.W_OK):
        raise _unusable(folder, "not writable")
    return folder


def _unusable(folder, reason):
    return ValueError(
        f"GCNN_CACHE: the cache {folder} cannot be used ({reason}); set it to a folder that can be written"
    )
