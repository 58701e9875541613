"""Updates as CUDA graphs: captured once, then replayed without Python in between."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

from .updates import AnyBatch, Updates

#: eager updates before one is captured: they fill caches and the optimizer's state
WARM_UP = 3


class GraphedUpdates:
    """The updates of generator and discriminator as given, on one GPU, in float32 or bf16.

    An update may depend on its batch only through tensor values. Discriminator updates with and without the lazy
    penalty are captured as separate graphs.
    """

    def __init__(self, updates: Updates):
        self.updates = updates
        self._kinds: dict[tuple, _Graphed] = {}

    def discriminator(self, batch: AnyBatch, update: int) -> dict[str, torch.Tensor]:
        kind = ("discriminator", self.updates.penalised(update))
        return self._run(kind, batch, lambda fixed: self.updates.discriminator(fixed, update))

    def generator(self, batch: AnyBatch) -> dict[str, torch.Tensor]:
        return self._run(("generator",), batch, self.updates.generator)

    def _run(self, kind, batch, update):
        if kind not in self._kinds:
            self._kinds[kind] = _Graphed(update)
        return self._kinds[kind](batch)


class _Graphed:
    """One kind of update."""

    def __init__(self, update: Callable[[AnyBatch], dict[str, torch.Tensor]]):
        self.update, self.done, self.replay = update, 0, None

    def __call__(self, batch: AnyBatch) -> dict[str, torch.Tensor]:
        if self.done < WARM_UP:
            self.done += 1
            return on_side_stream(lambda: self.update(batch))
        tensors, structure = tree_flatten(batch)
        if self.replay is None:
            self.inputs = [tensor if tensor is None else tensor.clone() for tensor in tensors]
            fixed = tree_unflatten(self.inputs, structure)
            self.replay, self.losses = capture(lambda: self.update(fixed))
        for mine, tensor in zip(self.inputs, tensors, strict=True):
            if tensor is not None:
                mine.copy_(tensor)
        self.replay()
        return {name: loss.clone() for name, loss in self.losses.items()}


def capture(function: Callable[[], dict[str, torch.Tensor]]) -> tuple[Callable[[], None], dict[str, torch.Tensor]]:
    """Capture a function without running it: what replays it, and the tensors that hold its results then."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph.replay, results


def on_side_stream(function: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Call a function on another stream than the default one, as the warm-up before a capture must be."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        results = function()
    torch.cuda.current_stream().wait_stream(stream)
    return results
