"""What updates of any networks share: precision, accumulation over parts of a batch, the optimizers' steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

import torch

from ..networks.spectral import leave_out_of_compilation
from ..options import Options
from .distributed import World, average_gradients
from .players import Players

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class AnyBatch(Protocol):
    """One rank's part of what an update is made from."""

    @property
    def size(self) -> int: ...

    def part(self, which: slice) -> AnyBatch: ...


B = TypeVar("B", bound=AnyBatch)


class Optimization:
    """How the players' losses become new weights.

    With ``options.accumulate`` above 1 a rank's part of the batch is cut again; batch norm and the means of the
    relativistic loss are then those of a part, over all ranks.

    Attributes:
        generate, judge: the generator and the discriminator, compiled if the options say so.
    """

    def __init__(self, options: Options, players: Players, world: World):
        self.options, self.players, self.world = options, players, world
        compiled = torch.compile if options.compile else (lambda network: network)
        if options.compile:
            leave_out_of_compilation()
        self.generate, self.judge = compiled(players.generator), compiled(players.discriminator)

    def _train(self, player: str) -> None:
        """Both players in training mode, with gradients for the weights of one of them."""
        for name in self.players.optimizers:
            self.players.networks[name].train().requires_grad_(name == player)

    def _autocast(self, penalty: bool = False):
        enabled = self.options.amp != "off" and not (penalty and self.options.amp == "fp16")
        return torch.autocast(self.world.device.type, AMP_DTYPES.get(self.options.amp), enabled=enabled)

    def _parts(self, batch: B) -> Iterator[B]:
        step = batch.size // self.options.accumulate
        for start in range(0, batch.size, step):
            yield batch.part(slice(start, start + step))

    def _backward(self, player: str, loss: torch.Tensor) -> None:
        self.players.scalers[player].scale(loss / self.options.accumulate).backward()

    def _step(self, player: str) -> None:
        optimizer, scaler = self.players.optimizers[player], self.players.scalers[player]
        average_gradients(self.players.networks[player].parameters())
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def _add(self, losses: dict[str, torch.Tensor], **values: torch.Tensor) -> None:
        for name, value in values.items():
            losses[name] = losses.get(name, 0) + value.detach() / self.options.accumulate
