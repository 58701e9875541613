"""What the updates of any GAN share: precision, accumulation over parts of a batch, the optimizers' steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Protocol, TypeVar

import torch

from ..common.distributed import World, average_gradients
from ..networks.spectral import leave_out_of_compilation
from ..options import Options
from .state import TrainingState

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class AnyBatch(Protocol):
    """One rank's part of what an update is made from."""

    @property
    def size(self) -> int: ...

    def part(self, which: slice) -> AnyBatch: ...


B = TypeVar("B", bound=AnyBatch)


class Updates(ABC):
    """One update of the discriminator and one of the generator: how their losses become new weights.

    With ``options.accumulate`` above 1 a rank's part of the batch is cut again; batch norm and the means of the
    relativistic loss are then those of a part, over all ranks.

    Attributes:
        generate, discriminate: the generator and the discriminator, compiled if the options say so.
    """

    def __init__(self, options: Options, state: TrainingState, world: World):
        self.options, self.state, self.world = options, state, world
        compiled = torch.compile if options.compile else (lambda network: network)
        if options.compile:
            leave_out_of_compilation()
        self.generate, self.discriminate = compiled(state.generator), compiled(state.discriminator)

    @abstractmethod
    def discriminator(self, batch, update: int) -> dict[str, torch.Tensor]:
        """Update the discriminator, which has had ``update`` updates; returns its losses, detached scalars by name."""

    @abstractmethod
    def generator(self, batch) -> dict[str, torch.Tensor]:
        """Update the generator; returns its losses, detached scalars by name."""

    def penalised(self, update: int) -> bool:
        """Whether the discriminator's update of that number computes a lazy penalty."""
        return False

    def _train(self, network: str) -> None:
        """Both networks in training mode, with gradients for the weights of one of them."""
        for name in self.state.optimizers:
            self.state.networks[name].train().requires_grad_(name == network)

    def _autocast(self, penalty: bool = False):
        enabled = self.options.amp != "off" and not (penalty and self.options.amp == "fp16")
        return torch.autocast(self.world.device.type, AMP_DTYPES.get(self.options.amp), enabled=enabled)

    def _parts(self, batch: B) -> Iterator[B]:
        step = batch.size // self.options.accumulate
        for start in range(0, batch.size, step):
            yield batch.part(slice(start, start + step))

    def _backward(self, network: str, loss: torch.Tensor) -> None:
        self.state.scalers[network].scale(loss / self.options.accumulate).backward()

    def _step(self, network: str) -> None:
        optimizer, scaler = self.state.optimizers[network], self.state.scalers[network]
        average_gradients(self.state.networks[network].parameters())
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def _add(self, losses: dict[str, torch.Tensor], **values: torch.Tensor) -> None:
        for name, value in values.items():
            losses[name] = losses.get(name, 0) + value.detach() / self.options.accumulate
