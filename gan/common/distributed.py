"""Several processes as ``torchrun`` starts them. Without it every function here is that of a single process.

There is no DistributedDataParallel: it cannot follow two forwards and double backward per update. Gradients are
averaged by one flat all-reduce per update, and the weights are made equal once, at the start.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """This process among all of them."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and the log."""
        return self.rank == 0

    def share(self, total: int, parts: int = 1) -> torch.Tensor:
        """Positions int64 of this rank's images in a batch of ``total``: an equal share of each of its ``parts``."""
        return torch.arange(total).view(parts, self.size, -1)[:, self.rank].flatten()


ALONE_ON_CPU = World(0, 1, torch.device("cpu"))


def join(device: str) -> World:
    """Join the processes that ``torchrun`` started, if it did.

    Args:
        device: "auto" (cuda if there is one), "cpu" or "cuda".

    Raises:
        ValueError: if cuda is asked for and not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device: cuda was asked for, but torch.cuda.is_available() is False")
    kind = "cuda" if device == "cuda" or (device == "auto" and torch.cuda.is_available()) else "cpu"
    if "WORLD_SIZE" not in os.environ:
        return World(0, 1, torch.device(kind))
    local = torch.device(kind, int(os.environ["LOCAL_RANK"])) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(local)
    if not dist.is_initialized():
        dist.init_process_group("cuda:nccl,cpu:gloo" if kind == "cuda" else "gloo")
    return World(dist.get_rank(), dist.get_world_size(), local)


def leave() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


@torch.no_grad()
def broadcast(tensors) -> None:
    """Overwrite every tensor by rank 0's."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.broadcast(tensor, 0)


@torch.no_grad()
def average_gradients(parameters) -> None:
    """Replace every gradient by its mean over the ranks, in one all-reduce. A missing gradient counts as zero."""
    if not dist.is_initialized():
        return
    parameters = list(parameters)
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad.copy_(part.view_as(parameter.grad))


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank."""
    if not dist.is_initialized():
        return flag
    flags = torch.tensor(float(flag))
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return bool(flags)


@torch.no_grad()
def mean_over_ranks(tensor: torch.Tensor) -> torch.Tensor:
    """The mean of the ranks' tensors."""
    if not dist.is_initialized():
        return tensor
    total = tensor.clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()


def broadcast_bytes(content: bytes) -> bytes:
    """Rank 0's bytes, on every rank."""
    if not dist.is_initialized():
        return content
    size = torch.tensor(len(content))
    dist.broadcast(size, 0)
    buffer = torch.zeros(int(size), dtype=torch.uint8)
    if dist.get_rank() == 0:
        buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    dist.broadcast(buffer, 0)
    return buffer.numpy().tobytes()


def gather_rows(rows: torch.Tensor) -> torch.Tensor:
    """Concatenate CPU tensors ``[n, F]`` of all ranks in rank order; n may differ, and F too where n is 0."""
    if not dist.is_initialized():
        return rows
    shapes = [torch.zeros(2, dtype=torch.long) for _ in range(dist.get_world_size())]
    dist.all_gather(shapes, torch.tensor(rows.shape))
    most, columns = torch.stack(shapes).amax(0).tolist()
    padded = rows.new_zeros(most, columns)
    padded[: rows.shape[0], : rows.shape[1]] = rows
    parts = [torch.empty_like(padded) for _ in shapes]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(shape[0])] for part, shape in zip(parts, shapes, strict=True)])
