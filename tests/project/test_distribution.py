"""What a source distribution and the wheel built from it hold; the wheel is compiled, installed and used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BACKEND = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
# Away from the checkout, of what the wheel brings.
USE = """
import pathlib, sys, torch
import gcnn_kernels as gk
assert pathlib.Path(gk.__file__).is_relative_to(sys.argv[1]), gk.__file__
x, weight = torch.randn(1, 2, 4, 6, 6), torch.randn(3, 2, 4, 3, 3)
y = gk.group_conv2d(x, weight, backend="cpu")
torch.testing.assert_close(y, gk.group_conv2d(x, weight, backend="reference"), rtol=1e-4, atol=1e-4)
"""


def run(*command: str | Path, cwd: Path, **variables: str) -> None:
    environment = {**os.environ, "GCNN_CUDA": "0", **variables}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    """Of a copy of the files that git knows, so that nothing that lies about in the checkout gets in."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("the tests do not run from a git checkout")
    copy, dist = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("sdist")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy / name)
    run(sys.executable, "-c", BACKEND, dist, cwd=copy)
    return next(dist.glob("*.tar.gz"))


def test_sdist_holds_what_is_compiled_and_read(sdist):
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "csrc").rglob("*") if path.is_file()}
    assert {"csrc/torch_abi.h", "csrc/cpu/product.h", "csrc/cpu/conv.cpp"} <= sources
    pages = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "setup.py", "pyproject.toml"}
    tables = {str(path.relative_to(ROOT)) for path in (ROOT / "gcnn_kernels").rglob("*.json")}
    modules = {
        str(path.relative_to(ROOT)) for package in ("gcnn_kernels", "gan") for path in (ROOT / package).rglob("*.py")
    }
    assert sources | pages | tables | modules | {"gcnn_kernels/py.typed"} <= held
    assert not [name for name in held if name.endswith((".so", ".pyc"))]


@pytest.mark.slow
def test_wheel_from_the_sdist_is_complete_and_computes(sdist, tmp_path):
    pip = (sys.executable, "-m", "pip")
    options = ("--no-build-isolation", "--no-deps", "--no-cache-dir", "--disable-pip-version-check")
    run(*pip, "wheel", *options, "--wheel-dir", tmp_path, sdist, cwd=tmp_path)
    (wheel,) = tmp_path.glob("gcnn_kernels-*-abi3-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    needed = {"gcnn_kernels/_cpu.abi3.so", "gcnn_kernels/py.typed", "gcnn_kernels/backends/triton/tables/sm_90.json"}
    assert needed <= held
    assert not [name for name in held if name.startswith(("csrc/", "tests/", "benches/", "examples/", "docs/"))]
    target = tmp_path / "installed"
    run(*pip, "install", *options, "--target", target, wheel, cwd=tmp_path)
    run(sys.executable, "-c", USE, target, cwd=tmp_path, PYTHONPATH=str(target))
