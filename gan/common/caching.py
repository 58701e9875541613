"""The cache folder, for results that are worth keeping between runs."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder(kind: str) -> Path:
    """``$GCNN_CACHE/kind``, or else ``gcnn_kernels/kind`` in the user's cache folder; created.

    Raises:
        ValueError: if it cannot be made or written; the message names GCNN_CACHE.
    """
    folder = Path(os.environ.get("GCNN_CACHE") or user_cache_path("gcnn_kernels")) / kind
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
