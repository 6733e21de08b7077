"""The network: a stock `UNet2DModel` in the few sizes that this package trains."""

from diffusers import UNet2DModel


# `attention_from`: the first level, counted from the finest, whose blocks attend over all positions. Where no level
# attends the middle does not either. At equal compute `small`, which has none, scores as `medium` does
# (train/results/ablation.md).
#
# `small` has the size of COLORIZED's network, 6.9 M parameters for RGB at 64 x 64: 7.0 M with target "rgb",
# `luminance_patch` 1 and no hints. That network has two ResNet blocks a level and 64, 128 and 256 channels. A
# UNet2DModel has one block a level more on the way up than on the way down; with two up and one down, these widths
# would be 10.3 M: hence 192 channels at the coarsest level. And the timestep scales and shifts, as in all presets,
# where in COLORIZED it is only added.
PRESETS = {
    "tiny": {"block_out_channels": (16, 32), "layers_per_block": 1, "attention_from": 1},
    "small": {"block_out_channels": (64, 128, 192), "layers_per_block": 1, "attention_from": 3},
    "medium": {"block_out_channels": (64, 128, 192, 256), "layers_per_block": 1, "attention_from": 2},
    "base": {"block_out_channels": (96, 192, 288, 384), "layers_per_block": 1, "attention_from": 1},
}

# Source: Ho et al. 2020, appendix B, for GroupNorm. The usual 32 groups would not divide the 16 channels of `tiny`.
_NORM_NUM_GROUPS = 16
_ATTENTION_HEAD_DIM = 32

# Cb, Cr and a mask that says where they are known.
HINT_CHANNELS = 3


def create_unet(
    preset: str,
    *,
    target: str = "chroma",
    luminance_patch: int = 4,
    num_features: int = 0,
    with_hints: bool = True,
) -> UNet2DModel:
    """
    Build an untrained network.

    Its input channels are, in this order: the noisy sample (2 for chroma, 3 for RGB) | luminance, `luminance_patch`
    squared planes | features of the image encoder, if it has one | hint chroma (2) and hint mask (1), if `with_hints`.

    Args:
        preset (`str`):
            One of `PRESETS`.
        target (`str`, *optional*, defaults to `"chroma"`):
            What is generated: `"chroma"` (two channels) or `"rgb"` (three).
        luminance_patch (`int`, *optional*, defaults to 4):
            Luma pixels along a side that one position of the network sees.
        num_features (`int`, *optional*, defaults to 0):
            Channels of the image encoder's features, `feature_channels(image_encoder.config)`.
        with_hints (`bool`, *optional*, defaults to `True`):
            Whether the network accepts color hints.

    Returns:
        `UNet2DModel` with random weights.
    """
    settings = PRESETS[preset]
    levels = len(settings["block_out_channels"])
    out_channels = {"chroma": 2, "rgb": 3}[target]
    attends = [level >= settings["attention_from"] for level in range(levels)]
    return UNet2DModel(
        in_channels=out_channels + luminance_patch**2 + num_features + (HINT_CHANNELS if with_hints else 0),
        out_channels=out_channels,
        block_out_channels=settings["block_out_channels"],
        layers_per_block=settings["layers_per_block"],
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        attention_head_dim=_ATTENTION_HEAD_DIM if settings["block_out_channels"][-1] > _ATTENTION_HEAD_DIM else 16,
        add_attention=any(attends),  # of the middle
        norm_num_groups=_NORM_NUM_GROUPS,
        resnet_time_scale_shift="scale_shift",
    )
