"""The backends in order of preference, and the choice between them."""

from __future__ import annotations

from functools import lru_cache

import torch

from .._checks import one_of
from ..groups import PointGroup
from . import cpu, cuda, reference, triton
from .base import ALGORITHMS, Backend
from .problem import ConvProblem

__all__ = [
    "ALGORITHMS",
    "BACKENDS",
    "Backend",
    "ConvProblem",
    "check_choice",
    "choose",
    "choose_for_conv",
    "choose_for_linear",
]

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (triton.BACKEND, cuda.BACKEND, cpu.BACKEND, reference.BACKEND)
}


def check_choice(backend: str, algorithm: str = "auto") -> None:
    """Raises ValueError for a name that no backend or algorithm has."""
    one_of("algorithm", algorithm, ("auto", *ALGORITHMS))
    one_of("backend", backend, ("auto", *BACKENDS))


def choose(operation: str, x: torch.Tensor, backend: str) -> Backend:
    """The backend for an operation ("filters", "norm", "pool" or "spatial_pool") on the tensor x.

    Raises:
        ValueError: if there is no backend of that name.
        RuntimeError: if the backend named cannot serve, or none can; the message says why.
    """
    return _choose(operation, x.device, x.dtype, backend, lambda: f"{operation} on a {x.dtype} tensor on {x.device}")


@lru_cache(maxsize=1024)
def choose_for_conv(problem: ConvProblem, algorithm: str, backend: str) -> tuple[Backend, str]:
    """The backend and the algorithm for a convolution; raises like :func:`choose`."""
    if algorithm != "auto" and algorithm not in ALGORITHMS:
        check_choice(backend, algorithm)
    chosen = _choose(
        "conv",
        problem.device,
        problem.dtype,
        backend,
        lambda: f"{problem.op} (group {problem.group.name}, algorithm {algorithm}, {problem.dtype}, {problem.device})",
        lambda candidate: candidate.conv.unsupported(problem, algorithm),
    )
    if algorithm == "auto":
        assert chosen.conv is not None  # else it would not have been chosen
        algorithm = chosen.conv.choose_algorithm(problem)
    return chosen, algorithm


def choose_for_linear(group: PointGroup, device: torch.device, dtype: torch.dtype) -> Backend:
    """The backend for linear layers over a group."""
    return _choose(
        "linear",
        device,
        dtype,
        "auto",
        lambda: f"linear layers over {group.name} in {dtype} on {device}",
        lambda candidate: candidate.linear.unsupported(group),
    )


def _choose(operation, device, dtype, name, what, unsupported=None) -> Backend:
    """The backend of that name, or the first that serves; ``what`` says in words what is asked for."""

    def reason(backend):
        if getattr(backend, operation) is None:
            return "it has no kernels for this operation"
        return backend.unsupported(device, dtype) or (unsupported and unsupported(backend))

    if name != "auto":
        if name not in BACKENDS:
            check_choice(name)
        backend = BACKENDS[name]
        found = backend.unavailable() or reason(backend)
        if found:
            raise RuntimeError(f"backend {name!r} cannot run {what()}: {found}")
        return backend
    reasons = []
    for backend in BACKENDS.values():
        found = backend.unavailable() or backend.explicit_only() or reason(backend)
        if found is None:
            return backend
        reasons.append(f"{backend.name}: {found}")
    raise RuntimeError(f"no backend can run {what()}:\n  " + "\n  ".join(reasons))
