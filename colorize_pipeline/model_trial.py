"""
Checked configurations, tried before any memory is spent: networks without data, the scheduler on a few numbers.

Bounds cannot tell everything: whether the blocks of a network fit each other, what a scheduler makes of its betas. The
components can, when they are built on PyTorch's device `meta`, where a tensor has a shape and no values.
"""

import inspect
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import diffusers
import torch
from diffusers import SchedulerMixin, UNet2DModel
from huggingface_hub.errors import StrictDataclassError

from .model_bounds import REMEDY, count_features
from .model_folder import CONFIG_FILES, ModelConfigs, check_weights


# 1 GB in float32. The largest network of this package has 43 M.
_MAX_PARAMETERS = 2**28

# Of an image encoder. EfficientNet-B7, the largest that was published, has 55.
_MAX_BLOCKS = 128

# What safetensors calls the types that weights may have.
_FLOATS = ("F32", "F16", "BF16", "F64")

# The model that lies beside this code is no foreign input: its trial would be a third of a second of each cold start.
_SHIPPED = Path(__file__).parent / "default_checkpoint"

# What libraries raise when a configuration makes no sense. Bounds and types were checked before.
_CANNOT_BE_BUILT = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, RuntimeError, TypeError,
    ValueError, StrictDataclassError,
)  # fmt: skip


def try_components(configs: ModelConfigs, arguments: Mapping[str, object]) -> Path:
    """
    Hold the weights of a folder against its configurations: build each component without them, and let it run.

    Args:
        configs ([`ModelConfigs`]): The checked configurations.
        arguments (`dict`): Those of `from_pretrained`.

    Returns:
        `Path`: The folder.

    Raises:
        `ValueError`: in one line, if a component cannot be built or run, is too
        large, or is none for these weights.
    """
    tensors = check_weights(configs, arguments.get("variant"))
    if configs.folder == _SHIPPED:
        return configs.folder
    steps = (configs.index | dict(arguments)).get("default_num_inference_steps", 8)
    for component, config in configs.components.items():
        try:
            with warnings.catch_warnings(action="ignore"):  # they are heard when it is loaded
                if component == "scheduler":
                    _try_scheduler(configs.index["scheduler"][1], config, steps)
                    continue
                network = _try_unet(config) if component == "unet" else _try_image_encoder(config)
        except _CANNOT_BE_BUILT as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise ValueError(f"{CONFIG_FILES[component]} describes nothing that works: {reason}. {REMEDY}") from error
        _compare(component, network, tensors[component])
    return configs.folder


def check_finite(components: Mapping[str, object]) -> None:
    """
    Refuse networks with weights that are no numbers, which would paint nothing. One pass over them, and no copy.

    Raises:
        `ValueError`: naming the first of them.
    """
    for component, module in components.items():
        weights = module.state_dict() if isinstance(module, torch.nn.Module) else {}
        broken = [name for name, value in weights.items() if _is_broken(value)]
        if broken:
            dtype = str(weights[broken[0]].dtype).removeprefix("torch.")
            remedy = "." if dtype == "float32" else " or, if only that type is too narrow, take float32."
            raise ValueError(
                f"The weights of {component} are not finite as {dtype}: {', '.join(broken[:3])}. Take another"
                f" checkpoint{remedy}"
            )


def _is_broken(weight: torch.Tensor) -> bool:
    if not weight.is_floating_point() or not weight.numel() or weight.is_meta:
        return False
    return not torch.stack(torch.aminmax(weight)).isfinite().all()  # NaN goes through both; an infinity is one of them


def _arguments_of(component_class: type, config: Mapping[str, object]) -> dict[str, object]:
    """Keep what the constructor takes: diffusers leaves out the rest, too."""
    names = inspect.signature(component_class.__init__).parameters
    return {name: value for name, value in config.items() if name in names}


def _try_unet(config: Mapping[str, object]) -> UNet2DModel:
    with torch.device("meta"), torch.no_grad():
        unet = UNet2DModel(**_arguments_of(UNet2DModel, config)).eval()
        _check_size(unet)
        side = 2 ** len(unet.config.block_out_channels)
        sample = torch.empty(1, unet.config.in_channels, side, side)
        output = unet(sample, torch.zeros((), dtype=torch.long), return_dict=False)[0]
    if output.shape != (1, unet.config.out_channels, side, side):
        raise ValueError(f"a sample of {side} x {side} leaves it in shape {tuple(output.shape)}")
    return unet


def _try_image_encoder(config: Mapping[str, object]) -> torch.nn.Module:
    # Imported here: most models have no image encoder, and transformers is no small thing.
    from transformers import EfficientNetConfig, EfficientNetModel

    encoder_config = EfficientNetConfig(**config)
    blocks = sum(math.ceil(encoder_config.depth_coefficient * repeats) for repeats in encoder_config.num_block_repeats)
    if blocks > _MAX_BLOCKS:
        raise ValueError(f"it has {blocks} blocks, and at most {_MAX_BLOCKS} are taken")
    with torch.device("meta"), torch.no_grad():
        encoder = EfficientNetModel(encoder_config).eval()
        _check_size(encoder)
        side = 2 ** (1 + sum(stride == 2 for stride in encoder.config.strides))
        states = encoder(torch.empty(1, 3, 2 * side, 2 * side), output_hidden_states=True).hidden_states
    channels = [state.shape[1] for state in states]
    sizes = [state.shape[2] for state in states]
    last_halving = max(block for block in range(1, len(sizes)) if sizes[block] < sizes[block - 1])
    if channels[last_halving - 1] + channels[-1] != count_features(config["strides"], config["out_channels"]):
        raise ValueError(
            "with 'width_coefficient' and 'depth_divisor' its stages are not as wide as 'out_channels' says"
        )
    return encoder


def _check_size(network: torch.nn.Module) -> None:
    number = sum(parameter.numel() for parameter in network.parameters())
    if number > _MAX_PARAMETERS:
        raise ValueError(f"it has {number} parameters, and at most {_MAX_PARAMETERS} are taken")


def _try_scheduler(name: str, config: Mapping[str, object], num_inference_steps: int) -> None:
    scheduler_class = getattr(diffusers, name, None)
    if not isinstance(scheduler_class, type) or not issubclass(scheduler_class, SchedulerMixin):
        raise ValueError(f"diffusers has no {name}, or it needs a package that is not installed")
    scheduler = scheduler_class(**_arguments_of(scheduler_class, config))
    scheduler.set_timesteps(num_inference_steps)
    if scheduler.timesteps[-1] < 0:
        raise ValueError(f"it cannot space {num_inference_steps} steps evenly")
    sample = torch.ones(1, 2, 4, 4) * scheduler.init_noise_sigma
    own_noise = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        own_noise["generator"] = torch.Generator().manual_seed(0)
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(sample, t)
        sample = scheduler.step(torch.zeros_like(scaled), t, sample, **own_noise, return_dict=False)[0]
    if not sample.isfinite().all():
        raise ValueError(f"its {num_inference_steps} steps end in values that are not finite")


def _compare(component: str, network: torch.nn.Module, tensors: Mapping[str, tuple]) -> None:
    """Hold the header of a file of weights against the network that they are for."""
    values = network.state_dict()
    for name in sorted(values.keys() | tensors.keys()):
        if name not in values or name not in tensors:
            what = f"{name[:100]!r} is {'missing' if name in values else 'too many'}"
        else:
            dtype, *shape = tensors[name]
            wanted = list(values[name].shape)
            numbers = _FLOATS if values[name].is_floating_point() else ("I64",)
            if shape == wanted and dtype in numbers:
                continue
            what = f"{name[:100]!r} must be {wanted} of {' or '.join(numbers)}, but is {shape} of {dtype}"
        raise ValueError(f"{component}/ has weights that do not belong to its configuration: {what}. {REMEDY}")
