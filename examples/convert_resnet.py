"""The ResNet-18 of torchvision and the same converted to p4m, trained on upright digits, tested on rotated ones too.

``gk.convert`` replaces every layer and divides the widths by sqrt(8), so that both have about as many parameters.
``gk.check_equivariance`` then shows that the one is invariant and what makes the other not so.
(Fives and nines are left out: a nine is a six upside down, a five nearly a two in the mirror.)
"""

from __future__ import annotations

import argparse
import time

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torchvision.models import resnet18

import gcnn_kernels as gk

SIZE = 16


@torch.no_grad()
def accuracy(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    return (net.eval()(x).argmax(1) == y).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4, help="(%(default)s)")
    given = parser.parse_args()

    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1, torch.tensor(digits.target)
    kept = (labels != 5) & (labels != 9)
    images, labels = F.interpolate(images[kept], (SIZE, SIZE), mode="bilinear").expand(-1, 3, -1, -1), labels[kept]
    order = torch.randperm(len(images))
    train, test = order[:1100], order[1100:]
    x, y = images[test], labels[test]

    plain = resnet18(num_classes=9)
    for name, net in (("ResNet-18", plain), ("p4m ResNet-18", gk.convert(plain, "p4m"))):
        start = time.perf_counter()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, given.epochs)
        for _ in range(given.epochs):
            net.train()
            for batch in train[torch.randperm(len(train))].split(50):
                optimizer.zero_grad()
                F.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimizer.step()
            schedule.step()
        seconds = time.perf_counter() - start
        size = sum(p.numel() for p in net.parameters())
        print(f"{name}: {size:,} parameters, {seconds:.0f} s of training; accuracy upright {accuracy(net, x, y):.1%}, "
              f"rotated by 90 degrees {accuracy(net, x.rot90(1, (2, 3)), y):.1%}, "
              f"mirrored {accuracy(net, x.flip(3), y):.1%}")  # fmt: skip
        report = gk.check_equivariance(net, x[:2], "p4m")
        print(f"  {report if report else report.first}", flush=True)


if __name__ == "__main__":
    main()
