"""A GAN of handwritten digits with an equivariant generator and discriminator, written out.

Both networks are G-CNNs over p4 (Dey et al., "Group Equivariant Generative Adversarial Networks", ICLR 2021): the
relativistic average loss, class conditioning by conditional batch norm and by projection, and the R1 penalty, whose
double backward pass goes through the group convolutions. `python -m gan.train` has everything that is left out here.
"""

import argparse

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

import gcnn_kernels as gk

CLASSES, NOISE, GROUP = 10, 32, "p4"


class Generator(nn.Module):
    """[B, NOISE] and labels -> [B, 1, 8, 8] in [-1, 1]."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.embed = nn.Embedding(CLASSES, NOISE)
        self.project = spectral_norm(nn.Linear(2 * NOISE, 4 * width * 4))
        self.lift = spectral_norm(gk.nn.LiftingConv2d(4 * width, 2 * width, 3, padding=1, group=GROUP))
        self.norm1 = gk.nn.ConditionalGroupBatchNorm2d(2 * width, 2 * NOISE, activation="relu")
        self.conv = spectral_norm(gk.nn.GroupConv2d(2 * width, width, 3, padding=1, group=GROUP))
        self.norm2 = gk.nn.ConditionalGroupBatchNorm2d(width, 2 * NOISE, activation="relu")
        self.to_image = spectral_norm(gk.nn.GroupConv2d(width, 1, 3, padding=1, group=GROUP))
        self.pool = gk.nn.GroupMaxPool()

    def forward(self, z, labels):
        condition = torch.cat([z, self.embed(labels)], dim=1)
        x = self.project(condition).unflatten(1, (-1, 2, 2))
        x = self.norm1(self.lift(F.interpolate(x, scale_factor=2)), condition)
        x = F.interpolate(x, scale_factor=(1, 2, 2))  # the group axis stays as it is
        x = self.norm2(self.conv(x), condition)
        return self.pool(self.to_image(x)).tanh()


class Discriminator(nn.Module):
    """Images and labels -> logits [B]; unchanged by quarter turns of the images."""

    def __init__(self, width: int = 32):
        super().__init__()
        self.lift = spectral_norm(gk.nn.LiftingConv2d(1, width, 3, padding=1, group=GROUP))
        self.conv = spectral_norm(gk.nn.GroupConv2d(width, 2 * width, 3, padding=1, group=GROUP))
        self.pool = gk.nn.GroupMaxPool()
        self.linear = spectral_norm(nn.Linear(2 * width, 1))
        self.embed = spectral_norm(nn.Embedding(CLASSES, 2 * width))

    def forward(self, x, labels):
        x = F.avg_pool3d(F.leaky_relu(self.lift(x), 0.2), (1, 2, 2))
        x = self.pool(F.leaky_relu(self.conv(x), 0.2)).mean((2, 3))
        return self.linear(x).squeeze(1) + (self.embed(labels) * x).sum(1)


def relativistic(a, b):
    """Relativistic average loss: a should look more real than b does on average (Jolicoeur-Martineau 2018)."""
    return (F.softplus(b.mean() - a) + F.softplus(b - a.mean())).mean()


def r1_penalty(discriminator, real, labels):
    """Mean squared norm of the gradient at real images (Mescheder et al. 2018), itself differentiable."""
    real = real.detach().requires_grad_()
    with gk.no_weight_gradients():  # the inner gradient is with respect to the images only
        (gradient,) = torch.autograd.grad(discriminator(real, labels).sum(), real, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def train(iterations: int, batch: int = 64) -> Generator:
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    classes = torch.tensor(digits.target)
    generator, discriminator = Generator(), Discriminator()
    adam = {"betas": (0.0, 0.9)}
    optimizer_g = torch.optim.Adam(generator.parameters(), lr=4e-4, **adam)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), lr=8e-4, **adam)
    for iteration in range(1, iterations + 1):
        for _ in range(2):
            chosen = torch.randint(len(images), (batch,))
            real = torch.rot90(images[chosen], int(torch.randint(4, ())), (2, 3))
            labels = classes[chosen]
            fake = generator(torch.randn(batch, NOISE), labels).detach()
            loss_d = relativistic(discriminator(real, labels), discriminator(fake, labels))
            loss_d = loss_d + 0.05 * r1_penalty(discriminator, real, labels)
            optimizer_d.zero_grad()
            loss_d.backward()
            optimizer_d.step()
        fake = generator(torch.randn(batch, NOISE), labels)
        loss_g = relativistic(discriminator(fake, labels), discriminator(real, labels).detach())
        optimizer_g.zero_grad()
        loss_g.backward()
        optimizer_g.step()
        if iteration % 50 == 0:
            print(f"iteration {iteration}: discriminator {loss_d.item():.3f}, generator {loss_g.item():.3f}")
    return generator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=300, help="generator updates (default: 300, a minute)")
    generator = train(parser.parse_args().iterations)
    with torch.no_grad():
        sample = generator(torch.randn(5, NOISE), torch.arange(5))
    for rows in zip(*(image[0] for image in sample), strict=True):
        print("   ".join("".join(" .:*#"[int((p + 1) * 2.49)] * 2 for p in row.tolist()) for row in rows))


if __name__ == "__main__":
    main()
