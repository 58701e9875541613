"""Compiles csrc/ into two binaries of PyTorch's stable ABI: _cpu and, where it can be, _cuda.

Which binaries are built:
  _cpu   always.
  _cuda  if torch was built with CUDA and an nvcc of the same major version is found. A GPU is not needed.
         GCNN_CUDA=0 leaves it out; GCNN_CUDA=1 makes its absence or failure an error instead of a warning.
         Where it is not built, the reason is kept in the file _cuda.txt beside the binaries.
TORCH_CUDA_ARCH_LIST chooses the GPU generations; without it those of DEFAULT_ARCHS that nvcc knows are built.

The stable ABI (TORCH_TARGET_VERSION) lets one binary run under any torch from 2.10 on, whichever it was built with,
so the isolated build of `pip install .` is safe beside an older torch.
"""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import torch
from setuptools import setup
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
DEFAULT_ARCHS = ("7.5", "8.0", "9.0", "10.0")
TORCH_TARGET = "0x020a000000000000"  # 2.10

# Without -fno-trapping-math GCC does not vectorise a loop that selects between two results (a leaky ReLU): computing
# the one that is not taken could raise a floating-point exception. Values, NaN and infinities are not affected.
CPU_FLAGS = ["-O3", "-g0", "-fopenmp-simd", "-fno-trapping-math", "-fvisibility=hidden"]

_spec = importlib.util.spec_from_file_location("binaries", ROOT / "gcnn_kernels/backends/binaries.py")
binaries = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(binaries)

DEFINES = [f"-DTORCH_TARGET_VERSION={TORCH_TARGET}", f'-DGCNN_SOURCE_HASH="{binaries.source_hash(CSRC)}"']


def say(text):
    print(f"gcnn_kernels: {text}", file=sys.stderr, flush=True)


class CannotBuild(Exception):
    """Why the CUDA binary is not built."""


def cuda_toolkit():
    """Makes torch's build use the toolkit that the nvcc found belongs to, and returns that nvcc."""
    if os.environ.get("GCNN_CUDA") == "0":
        raise CannotBuild("GCNN_CUDA=0")
    if torch.version.cuda is None:
        raise CannotBuild(f"torch {torch.__version__} is built without CUDA")
    if cpp_extension.CUDA_HOME is None:
        raise CannotBuild("no CUDA toolkit was found (no nvcc in PATH, no CUDA_HOME)")
    nvcc = Path(cpp_extension.CUDA_HOME) / "bin" / "nvcc"
    version = re.search(r"release (\d+)\.(\d+)", nvcc_says(nvcc, "--version"))
    if version is None or version[1] != torch.version.cuda.split(".")[0]:
        found = f"{version[1]}.{version[2]}" if version else "an unknown version"
        raise CannotBuild(f"{nvcc} is of CUDA {found}, torch {torch.__version__} of CUDA {torch.version.cuda}")
    root = re.search(r"#\$ TOP=(.*)", nvcc_says(nvcc, "--dryrun", "-x", "cu", os.devnull))
    if root is not None:  # nvcc may be a link or a wrapper, away from its libraries
        cpp_extension.CUDA_HOME = str(Path(root[1].strip()).resolve())
    return nvcc


def nvcc_says(nvcc, *arguments):
    try:
        done = subprocess.run([nvcc, *arguments], capture_output=True, text=True, check=True)
    except OSError as error:
        raise CannotBuild(f"{nvcc} does not run: {error}") from error
    except subprocess.CalledProcessError as error:
        raise CannotBuild(f"{nvcc} {arguments[0]} fails: {error.stderr.strip()}") from error
    return done.stdout + done.stderr


def default_archs(nvcc):
    """Those of DEFAULT_ARCHS that nvcc knows, and code for later generations to compile when they load it."""
    known = nvcc_says(nvcc, "--list-gpu-arch").split()
    archs = [arch for arch in DEFAULT_ARCHS if f"compute_{arch.replace('.', '')}" in known]
    if not archs:
        raise CannotBuild(f"{nvcc} compiles for none of the compute capabilities {', '.join(DEFAULT_ARCHS)}")
    return ";".join(archs) + "+PTX"


def sources(folder, *suffixes):
    return sorted(str(p.relative_to(ROOT)) for p in (CSRC / folder).glob("*") if p.suffix in suffixes)


def cpu_extension():
    return cpp_extension.CppExtension(
        "gcnn_kernels._cpu",
        sources("cpu", ".cpp"),
        include_dirs=[str(CSRC)],
        extra_compile_args=[*CPU_FLAGS, *DEFINES],
        py_limited_api=True,
    )


def cuda_extension():
    return cpp_extension.CUDAExtension(
        "gcnn_kernels._cuda",
        sources("cuda", ".cu"),
        include_dirs=[str(CSRC)],
        extra_compile_args={
            "nvcc": ["-O3", "-Xcompiler=-fvisibility=hidden", "-DUSE_CUDA", *DEFINES],
        },
        py_limited_api=True,
    )


class BuildExtension(cpp_extension.BuildExtension):
    """Goes on without the CUDA binary where it cannot be compiled or linked, unless GCNN_CUDA=1."""

    cpu_is_built = False

    def build_extensions(self):
        try:
            super().build_extensions()
        except Exception as error:
            if len(self.extensions) == 1 or os.environ.get("GCNN_CUDA") == "1":
                raise
            without_cuda(f"nvcc failed: {error}")
            self.extensions = [extension for extension in self.extensions if extension.name != "gcnn_kernels._cuda"]
            if not self.cpu_is_built:  # torch refused the pair of nvcc and host compiler before it began
                super().build_extensions()
        note = Path(self.get_ext_fullpath("gcnn_kernels._cuda")).with_name("_cuda.txt")
        note.unlink(missing_ok=True)
        if cuda_absence:
            note.write_text(cuda_absence[-1] + "\n")

    def build_extension(self, ext):
        super().build_extension(ext)
        self.cpu_is_built = self.cpu_is_built or ext.name == "gcnn_kernels._cpu"


cuda_absence = []  # the reason, if there is one


def without_cuda(reason):
    say(f"WARNING: only the CPU kernels are built; Triton remains for GPUs. The CUDA kernels are left out: {reason}")
    cuda_absence.append(reason)


extensions = [cpu_extension()]
try:
    nvcc = cuda_toolkit()
    archs = os.environ.setdefault("TORCH_CUDA_ARCH_LIST", default_archs(nvcc))
    extensions.append(cuda_extension())
    say(f"building the CPU and the CUDA kernels ({nvcc}, compute capabilities {archs})")
except CannotBuild as error:
    if os.environ.get("GCNN_CUDA") == "1":
        raise SystemExit(f"gcnn_kernels: GCNN_CUDA=1, but the CUDA kernels cannot be built: {error}") from None
    without_cuda(str(error))

setup(
    ext_modules=extensions,
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
