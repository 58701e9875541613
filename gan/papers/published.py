"""The papers' tables as data: which runs they compare, and the figures they report.

Dey et al. 2021, Tables 2 to 4 (Frechet and kernel distances), and Birrell et al. 2022, rotated MNIST.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Setting:
    """One row of a table: which of the networks are equivariant, and further options of ``gan.train``.

    ``generator`` and ``discriminator`` are a group, or "preset" for the paper's choice for the data set.
    """

    title: str
    generator: str
    discriminator: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedTable:
    """A table of a paper.

    Attributes:
        title: with its source.
        datasets: names that ``gan.train`` knows; the first one is the default.
        settings: the rows.
        losses: blocks of rows.
        fractions: columns, shares of the training data.
        figures: (dataset, loss, setting's title) -> one figure per fraction; a figure is what ``statistic`` says.
        statistic: "min, mean" of a run's evaluations, or "min".
        names: what the paper calls its data sets, where ``gan.train`` calls them otherwise.
        relative: whether figures compare only as ratios to the first row (the features are not public).
    """

    title: str
    datasets: tuple[str, ...]
    settings: tuple[Setting, ...]
    losses: tuple[str, ...]
    fractions: tuple[float, ...]
    figures: dict[tuple[str, str, str], tuple] = field(repr=False)
    statistic: str = "min"
    names: dict[str, str] = field(default_factory=dict)
    relative: bool = False

    def losses_on(self, dataset: str) -> list[str]:
        """The blocks of rows that report figures of a data set."""
        return [loss for loss in self.losses if any(key[:2] == (dataset, loss) for key in self.figures)]


_CELLS = (
    Setting("CNN in G & D", "p1", "p1"),
    Setting("CNN in G & G-CNN in D", "p1", "preset"),
    Setting("G-CNN in G & CNN in D", "preset", "p1"),
    Setting("G-CNN in G & D", "preset", "preset"),
)

_TABLE_2 = {
    "ragan": (
        ((2.04, 11.40), (1.42, 11.65), (1.20, 11.10), (1.36, 11.68)),
        ((1.84, 4.26), (0.88, 3.26), (0.52, 2.85), (0.53, 3.12)),
        ((1.49, 9.75), (1.08, 9.29), (0.90, 8.70), (0.95, 9.62)),
        ((1.61, 4.25), (0.76, 3.40), (0.54, 2.92), (0.53, 2.90)),
    ),
    "nsgan": (
        ((1.00, 7.02), (0.74, 8.25), (0.84, 8.07), (0.97, 8.49)),
        ((2.77, 5.48), (1.02, 3.51), (0.55, 2.85), (0.54, 3.08)),
        ((1.00, 7.00), (0.96, 7.42), (0.87, 6.83), (0.94, 7.52)),
        ((2.85, 5.67), (1.04, 4.24), (0.82, 3.27), (0.64, 3.32)),
    ),
    "wgan": (
        ((3.42, 16.21), (3.90, 18.32), (3.87, 17.81), (4.88, 19.40)),
        ((2.87, 5.98), (0.76, 4.11), (0.50, 3.57), (0.39, 3.51)),
        ((2.67, 16.02), (3.40, 17.03), (3.77, 17.76), (3.74, 17.82)),
        ((2.51, 5.67), (0.58, 3.32), (0.56, 3.52), (0.54, 3.76)),
    ),
}

_TABLE_3_SETTINGS = (
    *_CELLS,
    Setting("CNN in G & D + standard augmentation", "p1", "p1", ("--augment", "standard")),
    Setting("CNN in G & D + bCR", "p1", "p1", ("--augment", "bcr")),
    Setting("CNN in G & D + AR", "p1", "p1", ("--augment", "rotations")),
    Setting("G-CNN in G & D + bCR", "preset", "preset", ("--augment", "bcr")),
)
_TABLE_3 = {
    "anhir": (7.32, 5.56, 6.93, 5.54, 7.57, 5.86, None, 5.19),
    "lysto": (7.27, 5.02, 6.68, 3.90, 6.59, 4.78, None, 4.53),
    "cifar10": (20.89, 17.09, 21.20, 17.49, 37.41, 19.64, 19.59, 17.94),
    "food101": (27.34, 16.91, 24.16, 17.73, 35.18, 21.18, 20.39, 15.55),
}
_TABLE_3_LOSSES = {"cifar10": "hinge"}

_TABLE_4_SETTINGS = tuple(setting for setting in _CELLS if setting.generator == "p1" or setting.discriminator != "p1")
_TABLE_4 = (0.0663, 0.0333, 0.0399)

_FULL = ("--generator-symmetry", "full")
_BIRRELL_SETTINGS = (
    Setting("CNN G & D", "p1", "p1"),
    Setting("Eqv G + CNN D, C4", "p4", "p1", _FULL),
    Setting("CNN G + Inv D, C4", "p1", "p4"),
    Setting("(I)Eqv G + Inv D, C4", "p4", "p4"),
    Setting("Eqv G + Inv D, C4", "p4", "p4", _FULL),
    Setting("Eqv G + Inv D, C8", "c8", "c8", _FULL),
)
_BIRRELL = {
    "ragan": (
        (357, 348, 403, 392),
        (333, 355, 380, 393),
        (181, 188, 177, 176),
        (141, 132, 135, 130),
        (78, 89, 84, 82),
        (52, 51, 52, 57),
    ),
    "alpha": (
        (261, 283, 297, 293),
        (271, 251, 274, 275),
        (208, 192, 183, 173),
        (147, 133, 124, 126),
        (99, 88, 80, 81),
        (55, 57, 53, 51),
    ),
}


def _figures(dataset, settings, by_loss):
    return {
        (dataset, loss, setting.title): row
        for loss, rows in by_loss.items()
        for setting, row in zip(settings, rows, strict=True)
    }


def _single_figures():
    return {
        (dataset, _TABLE_3_LOSSES.get(dataset, "ragan"), setting.title): (figure,)
        for dataset, row in _TABLE_3.items()
        for setting, figure in zip(_TABLE_3_SETTINGS, row, strict=True)
    }


TABLES = {
    "2": PublishedTable(
        "Frechet distance on rotated MNIST (Dey et al. 2021, Table 2)",
        ("rotmnist",), _CELLS, ("ragan", "nsgan", "wgan"), (0.1, 0.33, 0.66, 1.0),
        _figures("rotmnist", _CELLS, _TABLE_2), "min, mean",
    ),
    "3": PublishedTable(
        "FID on the real-world sets (Dey et al. 2021, Table 3)",
        tuple(_TABLE_3), _TABLE_3_SETTINGS, ("ragan", "hinge"), (1.0,), _single_figures(),
    ),
    "4": PublishedTable(
        "KID of map to satellite translation (Dey et al. 2021, Table 4)",
        ("maps",), _TABLE_4_SETTINGS, ("pix2pix",), (1.0,),
        {("maps", "pix2pix", s.title): (f,) for s, f in zip(_TABLE_4_SETTINGS, _TABLE_4, strict=True)},
    ),
    "birrell": PublishedTable(
        "Frechet distance on rotated MNIST (Birrell et al. 2022), as ratios to the first row",
        ("rotmnist60k",), _BIRRELL_SETTINGS, ("ragan", "alpha"), (0.05, 0.1, 0.5, 1.0),
        _figures("rotmnist60k", _BIRRELL_SETTINGS, _BIRRELL), names={"rotmnist": "rotmnist60k"}, relative=True,
    ),
}  # fmt: skip


def choose(name: str, dataset: str | None = None, rows: Sequence[int] | None = None) -> tuple[PublishedTable, str]:
    """One of ``TABLES``, cut to some of its rows, and one of its data sets as ``gan.train`` calls it.

    Args:
        dataset: the paper's name of it, or ours; the table's first one unless given.
        rows: numbers from 1; all unless given.

    Raises:
        ValueError: the table has no such data set or row.
    """
    table = TABLES[name]
    dataset = table.names.get(dataset, dataset) or table.datasets[0]
    if dataset not in table.datasets:
        raise ValueError(f"dataset: table {name} has {', '.join(table.datasets)}, not {dataset}")
    if rows:
        if not set(rows) <= set(range(1, len(table.settings) + 1)):
            raise ValueError(f"rows: expected some of 1 to {len(table.settings)}, got {rows}")
        table = replace(table, settings=tuple(table.settings[row - 1] for row in rows))
    return table, dataset
