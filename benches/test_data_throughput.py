"""Batches from a prepared set: memory-mapped bytes to the floats that the networks see.

At least 20,000 images of 64x64 per second on two cores.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gan.data import store, to_tensor
from gan.data.pixels import Row

COUNT, RESOLUTION, BATCH, BATCHES = 20_000, 64, 64, 5
IMAGES_PER_SECOND = 20_000


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """20,000 random images in the layout and at the size of food101: 246 MB."""
    root = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(0)
    shape = (RESOLUTION, RESOLUTION, 3)
    source = store.Source(
        name="random",
        split="train",
        resolution=RESOLUTION,
        root=root,
        files=[],
        recipe={},
        class_names=[str(label) for label in range(101)],
        shape=shape,
        rows=lambda: (Row(rng.integers(0, 256, shape, dtype=np.uint8), i % 101) for i in range(COUNT)),
        count=COUNT,
    )
    return store.open_prepared(store.prepare(source, root))


def test_prepared_batches(benchmark, prepared):
    order = np.random.default_rng(1).permutation(COUNT)[: BATCH * BATCHES].reshape(BATCHES, BATCH)

    def feed():
        for indices in order:
            images, _ = prepared.batch(indices)
            floats = to_tensor(images)
        return floats

    expected = torch.from_numpy(prepared.images[order[-1]].astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    torch.testing.assert_close(feed(), expected, rtol=0, atol=1e-6)
    benchmark.pedantic(feed, rounds=100, warmup_rounds=2)
    if benchmark.stats is not None:  # None under --benchmark-disable
        rate = BATCH * BATCHES / benchmark.stats.stats.min  # other users of the machine only ever slow a round down
        benchmark.extra_info["images_per_second"] = round(rate)
        assert rate >= IMAGES_PER_SECOND
