"""Backward passes without the gradients of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# A thread's own flag in torch's local state, which the engine hands on to the threads that work on its backward pass.
_SKIP = "gcnn_kernels.no_weight_gradients"


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Within this context, backward passes of convolutions and linear layers compute no gradients of their parameters.

    For the inner ``torch.autograd.grad(D(x).sum(), x, create_graph=True)`` of a gradient penalty: the engine would
    compute the filters' gradients there too and throw them away (pytorch#56500). The gradients of the penalty itself,
    taken outside the context, are complete. Backward passes that other threads begin have theirs.
    """
    before = weight_gradients_skipped()
    torch._C._stash_obj_in_tls(_SKIP, True)
    try:
        yield
    finally:
        torch._C._stash_obj_in_tls(_SKIP, before)


def weight_gradients_skipped() -> bool:
    """Whether a backward pass is within :func:`no_weight_gradients`."""
    return torch._C._is_key_in_tls(_SKIP) and torch._C._get_obj_in_tls(_SKIP)
