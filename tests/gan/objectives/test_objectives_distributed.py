"""Two processes with half the batch each take the step of one process with the whole batch."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist

from gan.networks import build_discriminator, build_generator
from gan.objectives import LOSSES, build_loss, lipschitz, wgan_gp, zero_centred

PLAYERS = {  # preset, loss
    **{loss: ("digits", loss) for loss in (*LOSSES, "alpha") if loss != "pix2pix"},
    "batch norm in both": ("lysto", "ragan"),
}


def step(preset, loss_name, part, sync):
    """Losses and gradients of both networks on a part of a fixed batch of 4."""
    torch.manual_seed(0)
    generator = build_generator(preset, "p4", width=0.1, classes=3, sync=sync).double()
    discriminator = build_discriminator(preset, "p4", width=0.1, classes=3, sync=sync).double()
    loss = build_loss(loss_name)
    size = 64 if preset == "lysto" else 16  # the lysto discriminator takes any size; at 64 its last map is 1 x 1
    real = torch.rand(4, generator.image_shape[0], size, size, dtype=torch.double)[part] * 2 - 1
    z, shares = torch.randn(4, generator.latent_dim, dtype=torch.double)[part], torch.rand(4)[part]
    labels = torch.tensor([0, 1, 2, 0])[part]

    fake = generator(z, labels)
    fake = torch.nn.functional.avg_pool2d(fake, fake.shape[-1] // size)
    images = real.clone().requires_grad_()
    logits = discriminator(images, labels)
    loss_d = loss.discriminator(logits, discriminator(fake.detach(), labels))
    if loss_name in ("wgan", "alpha"):
        penalty = {"wgan": wgan_gp, "alpha": lipschitz}[loss_name]
        loss_d = loss_d + penalty(discriminator, real, fake, labels, 10.0, shares)
    else:
        loss_d = loss_d + zero_centred(logits, images, 1.0)
    gradients = list(torch.autograd.grad(loss_d, list(discriminator.parameters()), retain_graph=True))
    loss_g = loss.generator(discriminator(real, labels), discriminator(fake, labels))
    gradients += torch.autograd.grad(loss_g, list(generator.parameters()))
    return [loss_d.detach(), loss_g.detach(), *gradients]


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {}
    for name, (preset, loss) in PLAYERS.items():
        values = step(preset, loss, slice(2 * rank, 2 * rank + 2), sync=True)
        for value in values:
            dist.all_reduce(value)
        found[name] = [value / 2 for value in values]
    if rank == 0:
        torch.save(found, os.path.join(folder, "found.pt"))
    dist.barrier()
    os._exit(0)  # an orderly exit has been seen to abort in gloo ("terminate called without an active exception")


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, args=(str(folder),), nprocs=2)
    return torch.load(folder / "found.pt")


@pytest.mark.parametrize("name", PLAYERS)
def test_two_processes_equal_one(two_processes, name, one_thread):
    expected = step(*PLAYERS[name], slice(None), sync=False)
    for found, value in zip(two_processes[name], expected, strict=True):
        assert (found - value).norm() <= 1e-6 * value.norm() + 1e-12
