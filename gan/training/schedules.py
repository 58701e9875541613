"""What changes while a run learns: functions of the options and the iteration alone, so that runs resume exactly."""

from __future__ import annotations

import math
from typing import NamedTuple

from ..options import Options

#: what rates and gammas end at, of where they began, and Adam's last beta2: Huang et al. (2024), as their code sets it
LAST_RATE, LAST_GAMMA, LAST_BETA2 = 1 / 4, 1 / 10, 0.99


class Values(NamedTuple):
    """Of one iteration; ``share``: that of the newest weights in the generator's average."""

    lr_g: float
    lr_d: float
    beta2: float
    r1: float
    r2: float
    share: float


def values_at(options: Options, iteration: int) -> Values:
    """The values of the iteration after so many.

    "constant" has those of the options. The weights of update s count ``ema ** (t - s)`` in the average after t updates
    and those at initialisation do not count, so short runs need no other decay than long ones.

    "r3gan" goes along half a cosine from those of the options at the start to others after ``burn_in`` iterations, and
    stays there: rates to a quarter, gammas to a tenth, beta2 to 0.99. The average's half-life starts at none and ends
    at that of ``ema``.
    """
    if options.schedule == "constant":
        share = (1 - options.ema) / (1 - options.ema ** (iteration + 1))
        return Values(options.lr_g, options.lr_d, options.beta2, options.r1, options.r2, share)
    done = (1 - math.cos(math.pi * min(iteration / options.burn_in, 1.0))) / 2
    rate, gamma = (1 + done * (last - 1) for last in (LAST_RATE, LAST_GAMMA))
    half_life = done * _half_life(options.ema)
    return Values(
        lr_g=rate * options.lr_g,
        lr_d=rate * options.lr_d,
        beta2=options.beta2 + done * (LAST_BETA2 - options.beta2),
        r1=gamma * options.r1,
        r2=gamma * options.r2,
        share=1 - 0.5 ** (1 / half_life) if half_life > 0 else 1.0,
    )


def _half_life(decay: float) -> float:
    """In updates."""
    return math.log(0.5) / math.log(decay) if decay > 0 else 0.0
