"""What a run learns, as the training loop sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from PIL import Image

from ..common.distributed import World
from ..data.order import DataOrder
from ..options import Options
from .state import TrainingState
from .updates import AnyBatch, Updates


class Task(ABC):
    """The batches, updates and sample sheets of one kind of GAN.

    Attributes:
        updates: of the discriminator and of the generator.
        batches_per_iteration: how many batches of images an iteration takes.
        statistics: JSON-able; how :meth:`estimate_statistics` estimates them, None if the networks have none.
    """

    updates: Updates
    batches_per_iteration: int
    statistics: dict | None = None

    def __init__(self, options: Options, train_set, state: TrainingState, world: World):
        self.options, self.train_set, self.state, self.world = options, train_set, state, world
        self.images = _on_device(train_set, world.device)
        self.order = DataOrder(len(train_set), options.batch_size, options.seed)
        self.share = world.share(options.batch_size, options.accumulate)

    @abstractmethod
    def batch(self, number: int) -> AnyBatch:
        """This rank's part of a batch; everything random in it is drawn for the whole batch."""

    @abstractmethod
    def samples(self) -> Image.Image:
        """A sheet of what the averaged generator makes."""

    @abstractmethod
    def estimate_statistics(self) -> None:
        """Give the averaged generator's batch norms the statistics of its present weights."""

    def warnings(self) -> list[str]:
        """What the user should know about these options."""
        return []


def _on_device(images, device: torch.device):
    """The images on the GPU if they take no more than a quarter of its free memory, else where they are."""
    if device.type == "cpu" or images.images.nbytes > torch.cuda.mem_get_info(device)[0] / 4:
        return images
    return images.resident(device)
