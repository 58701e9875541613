"""The backends in order of preference, and the choice between them."""

from __future__ import annotations

from .base import ALGORITHMS, Backend, ConvProblem
from .cpu import CpuBackend
from .cuda import CudaBackend
from .reference import ReferenceBackend
from .triton import TritonBackend

__all__ = ["ALGORITHMS", "BACKENDS", "Backend", "ConvProblem", "choose", "choose_for_conv"]

BACKENDS: dict[str, Backend] = {
    backend.name: backend for backend in (TritonBackend(), CudaBackend(), CpuBackend(), ReferenceBackend())
}


def choose(op: str, x, backend: str) -> Backend:
    """The backend for ``op`` ("filters", "norm" or "pool") on the tensor x.

    Raises:
        RuntimeError: if ``backend`` is a name and that backend cannot serve; the message says why.
    """
    return _choose(
        backend, lambda: f"{op} on a {x.dtype} tensor on {x.device}", lambda candidate: candidate.refuses(op, x)
    )


def choose_for_conv(problem: ConvProblem, algorithm: str, backend: str) -> tuple[Backend, str]:
    """The backend and the algorithm for a convolution; raises like :func:`choose`."""
    chosen = _choose(
        backend,
        lambda: f"{problem.op} (group {problem.group.name}, algorithm {algorithm}, {problem.dtype}, {problem.device})",
        lambda candidate: candidate.refuses_conv(problem, algorithm),
    )
    return chosen, chosen.choose_algorithm(problem) if algorithm == "auto" else algorithm


def _choose(name: str, what, refuses) -> Backend:
    if name != "auto":
        backend = BACKENDS[name]
        reason = backend.missing() or refuses(backend)
        if reason:
            raise RuntimeError(f"backend {name!r} cannot run {what()}: {reason}")
        return backend
    reasons = []
    for backend in BACKENDS.values():
        reason = backend.missing() or backend.only_by_name() or refuses(backend)
        if reason is None:
            return backend
        reasons.append(f"{backend.name}: {reason}")
    raise RuntimeError(f"no backend can run {what()}:\n  " + "\n  ".join(reasons))
