"""The official Inception weights: found, or downloaded and verified, or asked for by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torchvision.datasets.utils import download_url

from ..common.caching import cache_folder

FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"
SIZE = 95_628_359
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def official_inception() -> Path:
    """The file in the cache, downloaded if it is not there. Raises ValueError that says what to put where."""
    path = cache_folder("weights") / FILE
    if not path.exists():
        partial = path.with_name(f"{FILE}.partial")
        partial.unlink(missing_ok=True)
        try:
            download_url(URL, partial.parent, partial.name)
            partial.rename(path)
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"the metrics of this data set need Inception's weights; they cannot be downloaded: {error}\n"
                f"Put {FILE} ({SIZE:,} bytes, SHA-256 {SHA256}) from {URL} into {path.parent} or give its path by "
                "--inception-weights. gan.train does without by --eval-every 0."
            ) from error
    found = sha256_of(path)
    if found != SHA256:
        raise ValueError(f"{path}: expected {SIZE:,} bytes with SHA-256 {SHA256}, found {found}; remove or replace it")
    return path
