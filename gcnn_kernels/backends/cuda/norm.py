"""Norms of the cuda backend."""

from __future__ import annotations

from ..compiled import CompiledNorm
from ..norm_formulas import composed


class CudaNorm(CompiledNorm):
    """The four kernels, and what they compose to."""

    def __init__(self, kernels):
        super().__init__(kernels)
        self.norm_eval, self.norm_train, self.norm_backward = composed(
            self.norm_stats, self.norm_apply, self.norm_backward_sums, self.norm_backward_input
        )
