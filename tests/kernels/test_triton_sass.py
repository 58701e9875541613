"""The instructions of the GPU's convolution kernels stay what benches/sass.py found good. No GPU is needed."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from benches import sass
from benches.ahead_of_time import generation
from gcnn_kernels.backends.triton import cost

LOOP = """
.L_x_0:
        /*0000*/                   IMAD.MOV.U32 R1, RZ, RZ, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDSM.16.M88.4 R4, [R1] ;
        /*0020*/              @!P1 LDG.E.U16 R5, desc[UR4][R2.64] ;
        /*0030*/                   LDGSTS.E.BYPASS.128 [R6], desc[UR4][R2.64], P4 ;
        /*0040*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0050*/                   HGMMA.64x32x16.F32.BF16 R168, R24, gdesc[UR4].tnspB, R168, gsb0 ;
        /*0060*/                   HGMMA.64x32x16.F32.BF16 R168, gdesc[UR8], R168, gsb0 ;
        /*0068*/              @!PT LDS RZ, [RZ] ;
        /*0070*/               @P0 BRA `(.L_x_1) ;
        /*0080*/               @P0 BRA `(.L_x_0) ;
"""


@pytest.fixture(autouse=True)
def shipped_tables(monkeypatch, tmp_path):
    monkeypatch.setenv("GCNN_TUNE_DIR", str(tmp_path))


def test_reading_of_a_loop():
    loop = sass.main_loop(LOOP)
    assert (loop.instructions, loop.matrix_instructions, loop.barriers, loop.shared_instructions) == (7, 2, 1, 1)
    assert loop.products == 2 * 64 * 32 * 16 // 4
    assert loop.global_widths == {2: 1, 16: 1}
    # a read of 16 bytes in each lane, a copy, and per warp a quarter of the operands: both, where A is no register
    assert loop.shared_bytes == 2 * 32 * 16 + 2 * (16 * 32 + 16 * (32 + 64)) // 4
    found = sass.clocks(loop, warps=4, blocks=2)
    assert found == {"issue": 7, "tensor": 32, "shared": 2048 * 4 / 128, "L2": 32 * 18 * 4 / 64, "barriers": 15}
    assert sass.share(found) == 32 / 64


# group, operator -> the least share of the tensor cores' peak that issue slots and the like leave, barriers in the loop
FUSED = {
    ("p4", "conv"): (0.59, 2),
    ("p4", "conv_weight_grad"): (0.42, 4),
    ("p4m", "conv"): (0.46, 2),
    ("p4m", "conv_weight_grad"): (0.35, 4),
}


@pytest.mark.parametrize(("group", "op"), FUSED)
@pytest.mark.parametrize("channels", [64, pytest.param(181, marks=pytest.mark.slow)])
def test_fused_kernels(group, op, channels):
    """No barrier between the planes, no product twice, whole vectors whatever the channels are."""
    problem = sass.layer(op, group, channels, channels)
    (result,) = sass.kernels(problem, "fourier").values()
    loop = sass.main_loop(result.sass)
    with generation("sm_90"):
        tile = cost.choose_tile(problem, "fourier")
    products = tile.rows * tile.columns * tile.depth * {"p4": 6, "p4m": 12}[group]
    assert loop.products * result.warps == products
    share, barriers = FUSED[group, op]
    if (channels, group, op) == (181, "p4", "conv"):
        share = 0.42  # the narrower tile: the addresses of unaligned channels make the other one spill
    assert loop.barriers <= barriers
    assert min(loop.global_widths) >= 8
    assert result.usage.spilled <= 64
    assert sass.share(sass.clocks(loop, result.warps, sass.resident(result))) >= share


@pytest.mark.parametrize(("channels", "narrowest"), [(64, 16), (90, 4)])
def test_staged_kernels(channels, narrowest):
    """Vectors of 16 bytes on the side of the coefficients; on that of the maps what the channels allow.

    Less than two clocks of issue for one of the way to the second-level cache: they are bound by memory.
    """
    for name, result in sass.kernels(sass.layer("conv", "p4m", channels, channels), "staged").items():
        kernel = sass.main_loop(result.sass)
        assert min(kernel.global_widths) == narrowest, name
        assert kernel.global_widths[16] >= (16 if name == "scatter_kernel" else 8)
        assert result.usage.spilled == 0
        found = sass.clocks(kernel, result.warps, sass.resident(result))
        assert found["issue"] <= 2 * found["L2"]
