"""The pictures of ``gan.compare``."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..common.files import write_atomically
from . import stability

POSES = 8


def draw_accuracy(
    path: Path, lines: dict[str, dict[float, list[float]]], *, xlabel: str, ticks: Sequence[float]
) -> None:
    """Mean and standard deviation over the seeds; a dotted line through a point that is alone, to compare with.

    Args:
        lines: label -> x -> errors of the seeds, in [0, 1].
        xlabel: of the horizontal axis, which is logarithmic.
        ticks: on it.
    """
    figure, (axis,) = _figure(1)
    for label, points in lines.items():
        accuracies = [100 - 100 * np.array(points[x]) for x in sorted(points)]
        spread = [a.std(ddof=1) if len(a) > 1 else 0 for a in accuracies]
        mean = [a.mean() for a in accuracies]
        drawn = axis.errorbar(
            sorted(points), mean, spread, marker="o", markersize=4, capsize=3, linewidth=1, label=label
        )
        if len(points) == 1:
            axis.axhline(mean[0], color=drawn[0].get_color(), linestyle=":", linewidth=1)
    axis.set_xscale("log", base=2)
    axis.minorticks_off()
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set(xlabel=xlabel, ylabel="accuracy, %")
    axis.legend(fontsize="small")
    _write(figure, path)


def draw_stability(path: Path, models: dict[str, torch.nn.Module], image: torch.Tensor, label: int, name: str) -> None:
    """The probability of the right class while the input makes a full turn: plain CNNs left, G-CNNs right.

    Args:
        models: label -> classifier in evaluation mode.
        image: uint8 ``[C, H, W]``; drawn in its poses above both panels.
        label, name: of its class.
    """
    figure, axes = _figure(2)
    angles = np.linspace(0, 360, stability.STEPS + 1)
    poses = stability.rotated(image)[: -1 : stability.STEPS // POSES].round().byte().permute(0, 2, 3, 1).squeeze(3)
    for axis, equivariant in zip(axes, (False, True), strict=True):
        for model, network in models.items():
            if _is_equivariant(network) is equivariant:
                axis.plot(angles, stability.scores_under_a_turn(network, image, label), linewidth=1.2, label=model)
        for pose, pixels in enumerate(poses):
            inset = axis.inset_axes([(pose + 0.05) / POSES, 1.02, 0.9 / POSES, 0.2])
            inset.imshow(pixels.numpy(), cmap="gray")
            inset.axis("off")
        axis.set(xlabel=f"angle of the input, degrees ({'G-CNN' if equivariant else 'CNN'})", ylim=(-0.03, 1.03))
        axis.set_xticks(range(0, 361, 90))
        if axis.lines:
            axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=5)
    axes[0].set_ylabel(f"probability of the class {name}")
    _write(figure, path)


def _is_equivariant(network: torch.nn.Module) -> bool:
    return any(module.point_group.order > 1 for module in network.modules() if hasattr(module, "point_group"))


def _figure(panels: int):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, panels, figsize=(1 + 4.5 * panels, 3.8), sharey=True, squeeze=False, layout="constrained"
    )
    for axis in axes[0]:
        axis.grid(alpha=0.3)
    return figure, axes[0]


def _write(figure, path: Path) -> None:
    from matplotlib import pyplot

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    pyplot.close(figure)
    write_atomically(path, buffer.getvalue())
