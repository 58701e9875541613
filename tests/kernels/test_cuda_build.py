"""csrc/cuda compiles for the default GPU generations; no GPU is needed."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benches import cubin
from gcnn_kernels.backends import binaries

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def setup_script():
    """The names of setup.py, run without building."""
    import setuptools

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setuptools, "setup", lambda **_: None)
        patch.setenv("GCNN_CUDA", "0")
        return runpy.run_path(str(ROOT / "setup.py"))


@pytest.fixture(scope="module")
def nvcc(setup_script):
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GCNN_CUDA", raising=False)
        try:
            return setup_script["cuda_toolkit"]()
        except setup_script["CannotBuild"] as reason:
            pytest.skip(str(reason))


ONLY_CUDA = """
import runpy, setuptools
setup = setuptools.setup
setuptools.setup = lambda ext_modules, **options: setup(ext_modules=ext_modules[1:], **options)
runpy.run_path("setup.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def binary(nvcc, tmp_path_factory):
    """The installed binary, if it was compiled from these sources; else one compiled now."""
    path, _ = binaries.load("_cuda")
    if path is not None:
        return path
    folder = tmp_path_factory.mktemp("cuda")
    environment = {k: v for k, v in os.environ.items() if k != "TORCH_CUDA_ARCH_LIST"} | {
        "GCNN_CUDA": "1",
        "MAX_JOBS": "2",
    }
    command = [
        sys.executable,
        "-c",
        ONLY_CUDA,
        "build_ext",
        "--build-lib",
        str(folder),
        "--build-temp",
        str(folder / "temp"),
    ]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder / "gcnn_kernels/_cuda.abi3.so"


def test_the_default_generations_are_those_that_nvcc_knows(setup_script, nvcc):
    archs = setup_script["default_archs"](nvcc)
    assert re.fullmatch(r"(\d+\.\d;)*\d+\.\d\+PTX", archs)
    assert {"8.0", "9.0"} <= set(archs.removesuffix("+PTX").split(";"))


def test_the_binary_holds_code_for_every_generation(setup_script, nvcc, binary):
    program = cubin.cuobjdump(nvcc)
    if program is None:
        pytest.skip("no cuobjdump was found")
    archs = setup_script["default_archs"](nvcc).removesuffix("+PTX").split(";")
    assert cubin.architectures(binary, program) >= {f"sm_{arch.replace('.', '')}" for arch in archs}


def test_the_binary_loads_without_a_gpu(binary):
    """Its operators are registered; calling one needs a device."""
    torch.ops.load_library(str(binary))
    assert "norm_backward_input" in str(torch.ops.gcnn_cuda.norm_backward_input.default)


def test_why_the_cuda_kernels_are_not_built(setup_script, tmp_path, monkeypatch):
    cuda_toolkit, cpp_extension = setup_script["cuda_toolkit"], setup_script["cpp_extension"]
    refused = lambda match: pytest.raises(setup_script["CannotBuild"], match=match)  # noqa: E731
    monkeypatch.setenv("GCNN_CUDA", "0")
    with refused("GCNN_CUDA=0"):
        cuda_toolkit()
    monkeypatch.delenv("GCNN_CUDA")
    monkeypatch.setattr(torch.version, "cuda", None)
    with refused("is built without CUDA"):
        cuda_toolkit()
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", None)
    with refused("no CUDA toolkit was found"):
        cuda_toolkit()
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path))
    with refused("bin/nvcc does not run: .*No such file"):
        cuda_toolkit()
    fake = tmp_path / "bin/nvcc"
    fake.parent.mkdir()
    for script, match in (
        ("echo 'Cuda compilation tools, release 12.4, V12.4.131'", "is of CUDA 12.4, torch .* of CUDA 13.2"),
        ("echo nonsense", "is of CUDA an unknown version"),
        ("echo broken >&2; exit 3", "nvcc --version fails: broken"),
    ):
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        with refused(match):
            cuda_toolkit()
