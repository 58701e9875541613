"""Train on upright digits, test on rotated and mirrored ones: a p4m G-CNN and a plain CNN of the same size.

The G-CNN's logits do not change under quarter turns and reflections, so it loses nothing; the CNN has never seen them.
(Fives and nines are left out: a nine is a six upside down, a five nearly a two in the mirror.)
"""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

import gcnn_kernels as gk


def network(group: str, width: int) -> torch.nn.Sequential:
    """Three 3x3 layers and a linear head; group "p1", the trivial group, makes it a plain CNN."""
    layers = [gk.nn.LiftingConv2d(1, width, 3, padding=1, group=group)]  # [B, 1, 8, 8] -> [B, width, order, 8, 8]
    for _ in range(2):
        layers += [
            gk.nn.GroupBatchNorm2d(width, activation="relu"),
            gk.nn.GroupConv2d(width, width, 3, padding=1, group=group),
        ]
    layers += [
        gk.nn.GroupBatchNorm2d(width, activation="relu"),
        gk.nn.GroupMaxPool(),  # maximum over the group: [B, width, 8, 8]
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(width, 9),
    ]
    return torch.nn.Sequential(*layers)


def accuracy(net, x, y) -> float:
    with torch.no_grad():
        return (net.eval()(x).argmax(1) == y).float().mean().item()


def main() -> None:
    torch.manual_seed(0)
    digits = load_digits()
    images, labels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16, torch.tensor(digits.target)
    kept = (labels != 5) & (labels != 9)
    images, labels = images[kept], labels[kept]
    order = torch.randperm(len(images))
    train, test = order[:1100], order[1100:]
    x, y = images[test], labels[test]
    for name, net in (("CNN", network("p1", 48)), ("p4m G-CNN", network("p4m", 17))):
        optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
        for _ in range(12):
            net.train()
            for batch in train[torch.randperm(len(train))].split(64):
                optimizer.zero_grad()
                F.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimizer.step()
        size = sum(p.numel() for p in net.parameters())
        print(f"{name}: {size:,} parameters; accuracy upright {accuracy(net, x, y):.1%}, "
              f"rotated by 90 degrees {accuracy(net, x.rot90(1, (2, 3)), y):.1%}, "
              f"mirrored {accuracy(net, x.flip(3), y):.1%}")  # fmt: skip


if __name__ == "__main__":
    main()
