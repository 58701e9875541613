"""Every option of a training run, resolved once from what the user gave, the preset and the loss."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from .data import DATASETS
from .metrics.evaluation import METRICS, RANKING, check_enough
from .networks import ALL_PRESETS, PAIR_PRESETS
from .networks.hyperparameters import (
    BCR_WEIGHTS,
    BCR_WEIGHTS_ELSEWHERE,
    BCR_WEIGHTS_FOOD101_EQUIVARIANT,
    LOSS_OPTIONS,
    PAIRED,
    PRESET_OF_DATASET,
    PRESET_OPTIONS,
)
from .objectives import LOSSES

CHOICES = {
    "preset": tuple(ALL_PRESETS),
    "generator_group": ("p1", "p4", "p4m", "c8", "c16", "d8"),
    "discriminator_group": ("p1", "p4", "p4m", "c8", "c16", "d8"),
    "generator_symmetry": ("incomplete", "full"),
    "loss": (*LOSSES, "alpha"),
    "augment": ("none", "standard", "bcr", "rotations", "diffaugment"),
    "schedule": ("constant", "r3gan"),
    "device": ("auto", "cpu", "cuda"),
    "amp": ("off", "bf16", "fp16"),
}


def _fixed(default, text):
    return field(default=default, metadata={"help": text, "may_change": False})


def _may_change(default, text):
    """An option that a resumed run may be given another value of, because it does not change what is learned."""
    return field(default=default, metadata={"help": text, "may_change": True})


@dataclass(frozen=True)
class Options:
    """The options of a run, resolved. The defaults are what most settings of Dey et al. (2021, appendix) share."""

    dataset: str = _fixed("digits", f"training images: {', '.join(DATASETS)}")
    preset: str = _fixed("digits", "networks and default options (default: the data set's own)")
    data: str | None = _may_change(None, "the data set's folder (default: ./data)")
    outdir: str = _may_change("", "the run's folder (default: runs/ and a name made of the options)")
    generator_group: str = _fixed("p4", "group of the generator; p1 is a plain CNN")
    discriminator_group: str = _fixed("p4", "group of the discriminator; p1 is a plain CNN")
    generator_symmetry: str = _fixed("incomplete", "incomplete: Dey et al.; full: invariant, Birrell et al.")
    width: float = _fixed(1.0, "factor on the channels of every layer")
    loss: str = _fixed("ragan", "adversarial loss")
    alpha: float = _fixed(2.0, "order of the alpha divergence (--loss alpha)")
    r1: float = _fixed(0.1, "gamma of the R1 gradient penalty; 0 for none")
    r2: float = _fixed(0.0, "gamma of the R2 gradient penalty, that on generated images; 0 for none")
    r1_every: int = _fixed(1, "take R1 and R2 only every so many discriminator updates, times this number")
    gradient_penalty: float = _fixed(0.0, "weight of the gradient penalty on interpolates (--loss wgan, alpha)")
    l1: float = _fixed(0.0, "weight of the L1 distance between translation and photograph (--loss pix2pix)")
    augment: str = _fixed("none", "standard: moves real images; bcr: consistency loss; rotations: auxiliary task")
    bcr_real: float = _fixed(0.0, "weight of the consistency loss on real images (--augment bcr)")
    bcr_fake: float = _fixed(0.0, "weight of the consistency loss on generated images (--augment bcr)")
    iterations: int = _may_change(20_000, "generator updates")
    batch_size: int = _fixed(64, "images per update, over all processes")
    accumulate: int = _fixed(1, "gradient accumulation: parts of a batch, each with its own batch statistics")
    d_updates: int = _fixed(2, "discriminator updates per generator update, each on fresh real images")
    lr_g: float = _fixed(1e-4, "Adam's learning rate for the generator")
    lr_d: float = _fixed(4e-4, "Adam's learning rate for the discriminator")
    beta1: float = _fixed(0.0, "Adam's beta1")
    beta2: float = _fixed(0.9, "Adam's beta2")
    ema: float = _fixed(0.9999, "decay of the moving average of the generator, which is evaluated and sampled")
    schedule: str = _fixed("constant", "r3gan: rates, beta2, gammas and ema follow a cosine (Huang et al. 2024)")
    burn_in: int = _fixed(20_000, "iterations until the schedule reaches its last values (--schedule r3gan)")
    data_fraction: float = _fixed(1.0, "share of the training images, stratified by class and chosen by the seed")
    seed: int = _fixed(0, "seed of all random numbers")
    device: str = _may_change("auto", "auto: cuda if there is one")
    amp: str = _fixed("off", "autocast to this dtype")
    compile: bool = _may_change(False, "torch.compile the networks where they are not differentiated twice")
    cuda_graphs: bool = _may_change(False, "replay updates as CUDA graphs; one GPU, without fp16 and --compile")
    eval_every: int = _may_change(1000, "iterations between evaluations; 0 for none")
    eval_samples: int = _fixed(0, "generated images per evaluation; 0: as many as there are validation images")
    eval_metrics: str = _fixed("fid", "some of fid,kid,pr (precision and recall); the first ranks the checkpoints")
    inception_weights: str | None = _may_change(None, "file of Inception's weights, if not the official ones")
    checkpoint_every: int = _may_change(1000, "iterations between checkpoints")
    sample_every: int = _may_change(1000, "iterations between sheets of samples")
    log_every: int = _may_change(50, "iterations between progress lines")

    def changed_from(self, saved: dict) -> dict[str, tuple]:
        """Options that a resumed run must keep and that differ: name -> (saved value, this value).

        An option that the saved run did not know yet had its default then.
        """
        values = {f.name: (saved.get(f.name, f.default), getattr(self, f.name)) for f in fields(self)}
        kept = [f.name for f in fields(self) if not f.metadata["may_change"]]
        return {name: values[name] for name in kept if values[name][0] != values[name][1]}


def resolve(given: dict) -> Options:
    """The options of a run from those given by the user.

    Preset and loss set the defaults of the rest. Raises ValueError, naming the option, for a value that cannot be.
    """
    dataset = given.get("dataset", "digits")
    preset = given.get("preset", PRESET_OF_DATASET.get(dataset, dataset))
    if preset not in PRESET_OPTIONS:
        raise ValueError(
            f"preset: the data set {dataset} has no networks of its own; choose one of {', '.join(PRESET_OPTIONS)}"
        )
    defaults = dict(PRESET_OPTIONS[preset])
    loss = given.get("loss", defaults.get("loss", Options.loss))
    options = Options(**{**defaults, **LOSS_OPTIONS.get(loss, {}), **given, "dataset": dataset, "preset": preset})
    if options.augment == "bcr":
        real, fake = _bcr_weights(options)
        options = replace(options, bcr_real=given.get("bcr_real", real), bcr_fake=given.get("bcr_fake", fake))
    _check(options)
    _check_pairs(options)
    return options if options.outdir else replace(options, outdir=str(_default_outdir(options)))


def _bcr_weights(options: Options) -> tuple[float, float]:
    if options.preset == "food101" and "p1" not in (options.generator_group, options.discriminator_group):
        return BCR_WEIGHTS_FOOD101_EQUIVARIANT
    return BCR_WEIGHTS.get(options.preset, BCR_WEIGHTS_ELSEWHERE)


def _default_outdir(options: Options) -> Path:
    groups = f"{options.generator_group}-{options.discriminator_group}"
    return Path("runs") / f"{options.dataset}-{groups}-{options.loss}-seed{options.seed}"


def _check(options: Options) -> None:
    positive = (
        "width", "r1_every", "iterations", "batch_size", "accumulate", "d_updates", "lr_g", "lr_d", "burn_in",
        "data_fraction", "checkpoint_every", "sample_every", "log_every",
    )  # fmt: skip
    for name in positive:
        if not getattr(options, name) > 0:
            raise ValueError(f"{name}: expected more than 0, got {getattr(options, name)}")
    for name in ("r1", "r2", "gradient_penalty", "l1", "bcr_real", "bcr_fake", "eval_every", "eval_samples", "seed"):
        if not getattr(options, name) >= 0:
            raise ValueError(f"{name}: expected 0 or more, got {getattr(options, name)}")
    for name in ("beta1", "beta2", "ema"):
        if not 0 <= getattr(options, name) < 1:
            raise ValueError(f"{name}: expected a number from 0 to below 1, got {getattr(options, name)}")
    metrics = options.eval_metrics.split(",")
    if metrics[0] not in RANKING or not set(metrics) <= set(METRICS):
        raise ValueError(
            f"eval_metrics: expected some of {', '.join(METRICS)}, the first of {', '.join(RANKING)}, "
            f"got {options.eval_metrics}"
        )
    if options.eval_every and options.eval_samples:
        check_enough(metrics, options.eval_samples, "eval_samples")
    if options.data_fraction > 1:
        raise ValueError(f"data_fraction: expected at most 1, got {options.data_fraction}")
    if options.batch_size % options.accumulate:
        raise ValueError(f"accumulate: {options.accumulate} parts do not divide a batch of {options.batch_size}")
    if options.cuda_graphs and (options.amp == "fp16" or options.compile):
        raise ValueError("cuda_graphs: not with --amp fp16, whose scaler asks the GPU, nor with --compile")
    if options.cuda_graphs and options.schedule != "constant":
        raise ValueError(f"cuda_graphs: captured updates keep Adam's numbers; not with --schedule {options.schedule}")
    if options.augment != "bcr" and (options.bcr_real > 0 or options.bcr_fake > 0):
        raise ValueError(f"augment: weights of bcr were given, but the augmentation is {options.augment}")
    if options.gradient_penalty > 0 and options.loss not in LOSS_OPTIONS:
        raise ValueError(
            f"gradient_penalty: only for {' and '.join(LOSS_OPTIONS)}; {options.loss} is regularised by --r1 and --r2"
        )


def _check_pairs(options: Options) -> None:
    """pix2pix, its networks and pairs of images go together and with nothing else."""
    if (options.dataset in PAIRED) != (options.preset in PAIR_PRESETS):
        raise ValueError(
            f"preset: networks of {', '.join(PAIR_PRESETS)} are for pairs of images, which {', '.join(PAIRED)} has; "
            f"got preset {options.preset} for {options.dataset}"
        )
    if (options.loss == "pix2pix") != (options.preset in PAIR_PRESETS):
        raise ValueError(f"loss: pix2pix is for pairs of images and they for pix2pix; got {options.loss}")
    if options.preset not in PAIR_PRESETS:
        if options.l1 > 0:
            raise ValueError(f"l1: {options.dataset} has no pairs of images to compare")
        return
    for name, expected in (("r1", 0.0), ("r2", 0.0), ("augment", "none"), ("generator_symmetry", "incomplete")):
        if getattr(options, name) != expected:
            raise ValueError(f"{name}: pix2pix knows only {expected}, got {getattr(options, name)}")
