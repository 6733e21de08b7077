"""What a pretrained network sees in a gray photo, as planes beside its luminance."""

import torch
import torch.nn.functional as F
from transformers import EfficientNetConfig, EfficientNetModel

from .model_bounds import count_features


# Sides of what the encoder sees are multiples of this, its coarsest stride.
ENCODER_STRIDE = 32


def feature_channels(config: EfficientNetConfig) -> int:
    """Count the channels of [`encode_luminance`]: those of the last two strides of the encoder."""
    return count_features(config.strides, config.out_channels)


def encode_luminance(image_encoder: EfficientNetModel, luminance: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """
    Describe every place of gray photos by the features of an image encoder, in training and in inference.

    The last features of strides 16 and 32 are brought to mean 0 and variance 1 over the channels of each place, and to
    the size of the chroma planes.

    Args:
        image_encoder (`EfficientNetModel`): Takes three channels in `[-1, 1]`.
        luminance (`torch.Tensor` of shape `(batch_size, 1, height, width)`): Gray photos in `[-1, 1]`, their sides
            multiples of `ENCODER_STRIDE`.
        size (`tuple`): `(rows, columns)` of the chroma that belongs to them.

    Returns:
        `torch.Tensor` of shape `(batch_size, features, rows, columns)`: `float32`.
    """
    states = encoder_states(image_encoder, luminance, strides=2)
    return torch.cat([F.interpolate(state, size=size, mode="bilinear") for state in states], dim=1)


def encoder_states(image_encoder: EfficientNetModel, luminance: torch.Tensor, strides: int) -> list[torch.Tensor]:
    """
    Give the last features of the coarsest strides of an image encoder.

    Args:
        image_encoder (`EfficientNetModel`), luminance (`torch.Tensor`): As in [`encode_luminance`].
        strides (`int`): How many strides, of those that the encoder has.

    Returns:
        `list` of `torch.Tensor` of shape `(batch_size, channels, height / stride, width / stride)`: from the finest
        stride on, `float32`, of mean 0 and variance 1 over the channels of each place.
    """
    height, width = luminance.shape[-2:]
    pixels = luminance.expand(-1, 3, -1, -1).to(image_encoder.dtype)
    hidden_states = image_encoder(pixels, output_hidden_states=True).hidden_states
    last_of_stride = {height // state.shape[-2]: state.float() for state in hidden_states}
    states = [last_of_stride[stride] for stride in sorted(last_of_stride)[-strides:]]
    return [F.layer_norm(state.movedim(1, -1), state.shape[1:2]).movedim(-1, 1) for state in states]
