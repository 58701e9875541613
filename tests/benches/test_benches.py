"""What the benchmarks rest on: their naive version is right, their cases are the networks', their guard fails."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import gcnn_kernels as gk
from benches import device, naive, report
from benches.cases import BATCHES, conv_cases, map_cases
from gan.networks import build_discriminator, build_generator


@pytest.mark.parametrize("slots", ["lifting", "group"])
@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("build_stack", naive.STACKS.values(), ids=naive.STACKS.keys())
def test_naive_stack(build_stack, group, slots):
    weight = torch.randn(3, 2, gk.point_group(group).order if slots == "group" else 1, 3, 3)
    expected = gk.expand_filters(weight if slots == "group" else weight[:, :, 0], group, backend="reference")
    torch.testing.assert_close(build_stack(weight, group), expected, rtol=0, atol=0)


@pytest.mark.parametrize("slots", ["lifting", "group"])
@pytest.mark.parametrize("group", ["c8", "d8", "p4m"])
def test_naive_stack_beyond_the_grid(group, slots):
    weight = torch.randn(3, 2, gk.point_group(group).order if slots == "group" else 1, 5, 5, dtype=torch.float64)
    weight *= gk.expand_filters(torch.ones(1, 1, 5, 5, dtype=torch.float64), "c8")[0, 0] > 0  # p4m has no disk
    expected = gk.expand_filters(weight if slots == "group" else weight[:, :, 0], group, backend="reference")
    torch.testing.assert_close(naive.stack_by_grid_sample(weight, group), expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("group", ["p1", "p4", "p4m"])
def test_naive_networks(group, memory_format):
    torch.manual_seed(0)
    options = {"width": 0.125, "classes": 2}
    generator = build_generator("food101", group, **options).double()
    discriminator = build_discriminator("food101", group, **options).double()
    states = [{k: v.clone() for k, v in network.state_dict().items()} for network in (generator, discriminator)]
    z, labels = torch.randn(2, generator.latent_dim).double(), torch.tensor([0, 1])

    def run():
        generator.load_state_dict(states[0])
        discriminator.load_state_dict(states[1])
        images = generator(z, labels)
        return images, discriminator(images, labels)

    results = run()
    with naive.layers(memory_format):
        expected = run()
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result, reference, rtol=0, atol=1e-10)


def test_cases_cover_the_networks():
    names = [name for case in conv_cases() for name in (case.name, *case.shared_by)]
    assert len(names) == len(set(names))
    for dataset in BATCHES:
        assert {name.split("-")[1] for name in names if name.startswith(f"{dataset}-")} == {"G", "D"}
    by_name = {name: case for case in conv_cases() for name in (case.name, *case.shared_by)}
    case = by_name["anhir-G-block3-conv1-p4m"]  # Table 7: 90 -> 45 maps at 32 x 32, 256 -> 128 in the plain CNN
    assert (case.in_channels, case.out_channels, case.in_size, case.in_slots) == (90, 45, (32, 32), 8)
    assert (case.plain.in_channels, case.plain.out_channels, case.plain.group) == (256, 128, "p1")
    assert {case.kind for case in map_cases()} == {"norm", "pool", "spatial pool"}


@pytest.fixture
def ratios(tmp_path, monkeypatch):
    """An empty folder of ratios."""
    monkeypatch.setattr(report, "RATIOS", tmp_path / "ratios")


def result(ours, name="layer"):
    case = SimpleNamespace(name=name, kind="group")
    return report.Result(case, "forward", "fp32", {"ours": ours, "naive": 3.0})


@pytest.mark.parametrize(("seconds", "fails"), [(1.0, False), (1.1, False), (1.2, True)])
def test_guard(ratios, seconds, fails):
    report.write_ratios([result(1.0)])
    assert report.committed_ratios() == {"layer forward": {"naive": 3.0}}
    assert (report.falls_short(result(seconds)) is not None) is fails


def test_cases_that_did_not_run_keep_their_ratios(ratios):
    report.write_ratios([result(1.0), result(1.5, "other")])
    report.write_ratios([result(2.0)])
    assert report.committed_ratios() == {"layer forward": {"naive": 1.5}, "other forward": {"naive": 2.0}}


def test_ratios_of_another_machine_guard_nothing(ratios, monkeypatch):
    report.write_ratios([result(1.0)])
    monkeypatch.setattr(device.Cpu, "describe", lambda self: {"cpu": "another", "threads": 1})
    assert report.ratios_file().name == "cpu-another-1-threads.json"
    assert report.committed_ratios() == {}
