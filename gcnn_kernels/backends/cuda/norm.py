"""Norms of the cuda backend."""

from __future__ import annotations

from typing import Any

from ..compiled import CompiledNorm
from ..norm_formulas import OneResult, ThreeResults, composed


class CudaNorm(CompiledNorm):
    """The four kernels, and what they compose to."""

    norm_eval: OneResult
    norm_train: ThreeResults
    norm_backward: ThreeResults

    def __init__(self, kernels: Any):
        super().__init__(kernels)
        self.norm_eval, self.norm_train, self.norm_backward = composed(
            self.norm_stats, self.norm_apply, self.norm_backward_sums, self.norm_backward_input
        )
