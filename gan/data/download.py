"""Archives that are downloaded, verified and unpacked once; nothing that is already there is replaced."""

from __future__ import annotations

import shutil
import tarfile
import zlib
from pathlib import Path

from torchvision.datasets.utils import calculate_md5, download_url, extract_archive

from ..common.errors import DataError
from ..common.locks import locked


def obtain(folder: Path, archive: str, url: str, md5: str | None) -> Path:
    """``folder``, which the archive in the folder above it holds; downloaded and unpacked if it is not there.

    Both happen under another name, which is changed at the end: a folder or an archive that is there is complete.

    Args:
        md5: of the archive; None if its authors publish none.
    """
    if folder.exists():
        return folder
    root = folder.parent
    try:
        with locked(root, archive):
            if not folder.exists():
                _download(root / archive, url, md5)
                _unpack(root / archive, folder)
    except (OSError, RuntimeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{folder} is not there and {url} cannot be downloaded: {error}\n"
            f"Put it into {root} as {archive}, or name with --data the folder that holds it."
        ) from error
    return folder


def _download(archive: Path, url: str, md5: str | None) -> None:
    if not archive.exists():
        partial = archive.with_name(f"{archive.name}.partial")
        partial.unlink(missing_ok=True)
        download_url(url, archive.parent, partial.name, md5)
        partial.rename(archive)
    elif md5 is not None and (found := calculate_md5(archive)) != md5:
        raise DataError(f"{archive}: expected MD5 {md5}, found {found}; remove it and it is downloaded again")


def _unpack(archive: Path, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        extract_archive(archive, partial)
        (partial / folder.name).rename(folder)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(f"{archive}: cannot be unpacked into {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
