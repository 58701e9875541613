"""The two networks, their optimizers, and the running average of the generator: all that a checkpoint holds."""

from __future__ import annotations

import torch
from torch import nn

from ..common.distributed import World, broadcast
from ..options import Options
from ..runs.networks import new_discriminator, new_generator
from .schedules import Values


class Average:
    """Moving average of a network's parameters; its buffers are copies of the latest ones.

    (torch's ``AveragedModel`` does not tell its averaging function the number of the update.)
    """

    def __init__(self, network: nn.Module):
        self.network = network.eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, source: nn.Module, share: float) -> None:
        """Take in the latest weights with their share of the average."""
        torch._foreach_lerp_(list(self.network.parameters()), list(source.parameters()), share)
        for mine, latest in zip(self.network.buffers(), source.buffers(), strict=True):
            mine.copy_(latest)


class TrainingState:
    """Everything that training changes.

    Args:
        options: of the run.
        classes, image_channels: of the data.
        world: the ranks; all start with rank 0's weights.
    """

    def __init__(self, options: Options, classes: int, image_channels: int, world: World):
        self.options = options
        torch.manual_seed(options.seed)
        shape = {"classes": classes, "image_channels": image_channels, "sync": world.size > 1}
        self.generator = new_generator(options, **shape)
        self.discriminator = new_discriminator(options, **shape)
        average = new_generator(options, **shape)
        average.load_state_dict(self.generator.state_dict())
        for network in (self.generator, self.discriminator, average):
            network.to(world.device)
        broadcast([*self.generator.state_dict().values(), *self.discriminator.state_dict().values()])
        self.average = Average(average)
        adam = {"betas": (options.beta1, options.beta2), "fused": True, "capturable": options.cuda_graphs}
        self.optimizers = {
            "generator": torch.optim.Adam(self.generator.parameters(), options.lr_g, **adam),
            "discriminator": torch.optim.Adam(self.discriminator.parameters(), options.lr_d, **adam),
        }
        scaled = options.amp == "fp16"
        self.scalers = {name: torch.amp.GradScaler(world.device.type, enabled=scaled) for name in self.optimizers}

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "discriminator": self.discriminator, "average": self.average.network}

    def set_rates(self, values: Values) -> None:
        """Give the optimizers the numbers of an iteration."""
        for name, rate in (("generator", values.lr_g), ("discriminator", values.lr_d)):
            for parameters in self.optimizers[name].param_groups:
                parameters["lr"] = rate
                parameters["betas"] = (self.options.beta1, values.beta2)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Every tensor of the state by name: weights, buffers (spectral norm, batch norm), Adam's moments."""
        tensors = {}
        for name, network in self.networks.items():
            tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            for key, parameter in self.networks[name].named_parameters():
                for moment, value in optimizer.state[parameter].items():
                    tensors[f"{name}_adam.{key}.{moment}"] = value
        return tensors

    def scaler_states(self) -> dict[str, dict]:
        """Of mixed precision in fp16; JSON."""
        return {name: scaler.state_dict() for name, scaler in self.scalers.items()}

    def restore(self, tensors: dict[str, torch.Tensor], scaler_states: dict[str, dict]) -> None:
        """Set the state that :meth:`tensors` and :meth:`scaler_states` gave; RuntimeError if names or shapes differ."""
        for name, network in self.networks.items():
            network.load_state_dict(_below(tensors, name))
        for name, optimizer in self.optimizers.items():
            saved = _below(tensors, f"{name}_adam")
            for key, parameter in self.networks[name].named_parameters():
                optimizer.state[parameter] = {
                    moment: value.to(parameter.device) for moment, value in _below(saved, key).items()
                }
            self.scalers[name].load_state_dict(scaler_states[name])

    def first_not_finite(self) -> str | None:
        """The name of a tensor of the state that holds NaN or infinity, or None."""
        for name, tensor in self.tensors().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                return name
        return None


def _below(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
