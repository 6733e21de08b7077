"""
What the configurations of a model may say: for each value, what it is and between which bounds.

The bounds are this package's own, several times what is of use: they keep out what cannot be built, what would eat all
memory, and what no painting comes out of. What a table does not name is nothing this package knows, or the switch of a
scheduler: it may be anything small.
"""

import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


REMEDY = "Save the pipeline again with `save_pretrained`, or take another model."


@dataclass(frozen=True)
class Rule:
    """What a value may be, and how that is said."""

    words: str
    allows: Callable[[object], bool]


def whole(low: int, high: int) -> Rule:
    return Rule(f"a whole number from {low} to {high}", lambda value: type(value) is int and low <= value <= high)


def real(low: float, high: float) -> Rule:
    # No comparison is true of NaN.
    return Rule(
        f"a number from {low:g} to {high:g}", lambda value: type(value) in (int, float) and low <= value <= high
    )


def word(*choices: str) -> Rule:
    if choices:
        return Rule(" or ".join(map(repr, choices)), lambda value: isinstance(value, str) and value in choices)
    return Rule("a word", lambda value: isinstance(value, str) and re.fullmatch(r"[\w+. -]{1,64}", value) is not None)


def many(rule: Rule, least: int, most: int) -> Rule:
    return Rule(
        f"a list of {least} to {most} entries, each {rule.words}",
        lambda value: isinstance(value, list) and least <= len(value) <= most and all(map(rule.allows, value)),
    )


def either(*rules: Rule) -> Rule:
    return Rule(", or ".join(rule.words for rule in rules), lambda value: any(rule.allows(value) for rule in rules))


_NULL = Rule("null", lambda value: value is None)
_FLAG = Rule("true or false", lambda value: isinstance(value, bool))
_PATH = Rule("a path", lambda value: isinstance(value, str) and len(value) <= 4096)
_NAMES = Rule(
    "an object of names",
    lambda value: isinstance(value, dict) and all(type(name) in (str, int) for name in value.values()),
)
_SCALAR = either(_NULL, _FLAG, real(-1e6, 1e6), word())
_SMALL = either(_SCALAR, many(_SCALAR, 0, 1000))

# What diffusers and transformers write of their own.
_NOTES = {
    "_class_name": word(),
    "_diffusers_version": word(),
    "_name_or_path": either(_NULL, _PATH),
    "quantization_config": _NULL,  # would load another library
    "auto_map": _NULL,  # would load code
}

# The numbers that `ColorizationPipeline` registers.
NUMBERS = {
    "chroma_scale": real(0.001, 10),
    "luminance_patch": whole(1, 16),
    "encoder_resolution": whole(32, 2048),
    "default_num_inference_steps": whole(1, 1000),
    "default_processing_resolution": either(whole(0, 0), whole(16, 4096)),
    "default_guidance_scale": real(0, 100),
    "default_spread": real(0, 4),
    "doubt_scale": real(0, 100),
    "doubt_floor": real(0, 100),
    "doubt_bound": real(0, 100),
}

MODEL_INDEX = {
    **_NOTES,
    **NUMBERS,
    "unet": Rule('["diffusers", "UNet2DModel"]', lambda value: value == ["diffusers", "UNet2DModel"]),
    "scheduler": Rule(
        '["diffusers", a scheduler of diffusers]',
        lambda value: (
            isinstance(value, list)
            and len(value) == 2
            and value[0] == "diffusers"
            and isinstance(value[1], str)
            and re.fullmatch(r"\w{1,64}Scheduler", value[1]) is not None
        ),
    ),
    "image_encoder": Rule(
        '["transformers", "EfficientNetModel"], or [null, null]',
        lambda value: value in (["transformers", "EfficientNetModel"], [None, None]),
    ),
}

# Source of the names: the signature of diffusers.UNet2DModel.
UNET = {
    **_NOTES,
    "sample_size": either(_NULL, whole(1, 65536), many(whole(1, 65536), 2, 2)),
    "in_channels": whole(3, 4096),
    "out_channels": whole(1, 4),
    "center_input_sample": _FLAG,
    "time_embedding_type": word("positional", "fourier", "learned"),
    "time_embedding_dim": either(_NULL, whole(2, 8192)),
    "freq_shift": real(0, 1),
    "flip_sin_to_cos": _FLAG,
    "down_block_types": many(word(), 1, 8),
    "mid_block_type": either(_NULL, word("UNetMidBlock2D")),
    "up_block_types": many(word(), 1, 8),
    "block_out_channels": many(whole(4, 2048), 1, 8),
    "layers_per_block": whole(1, 4),
    "mid_block_scale_factor": real(0.001, 1000),
    "downsample_padding": whole(0, 4),
    "downsample_type": word("conv", "resnet"),
    "upsample_type": word("conv", "resnet"),
    "dropout": real(0, 0.99),
    "act_fn": word(),
    "attention_head_dim": either(_NULL, whole(1, 2048)),
    "norm_num_groups": whole(1, 2048),
    "attn_norm_num_groups": either(_NULL, whole(1, 2048)),
    "norm_eps": real(1e-12, 0.1),
    "resnet_time_scale_shift": word("default", "scale_shift"),
    "add_attention": _FLAG,
    "class_embed_type": _NULL,  # the pipeline has no classes
    "num_class_embeds": _NULL,
    "num_train_timesteps": either(_NULL, whole(1, 10_000)),
}

# Source of the names: the signatures of the schedulers of diffusers. What is not named here is a switch of one class.
SCHEDULER = {
    **_NOTES,
    "num_train_timesteps": whole(2, 10_000),
    "beta_start": real(0, 1),
    "beta_end": real(0, 1),
    "trained_betas": either(_NULL, many(real(0, 1), 2, 10_000)),
    "beta_schedule": word(),
    "prediction_type": word(),
    "timestep_spacing": word(),
    "steps_offset": whole(0, 1000),
    "clip_sample": either(_NULL, _FLAG),
    "clip_sample_range": real(0.001, 1000),
    "sample_max_value": real(0.001, 1000),
    "dynamic_thresholding_ratio": real(0, 1),
    "lambda_min_clipped": real(float("-inf"), 0),
    "solver_order": whole(1, 3),
    "rescale_betas_zero_snr": _FLAG,
    "thresholding": _FLAG,
    "lower_order_final": _FLAG,
    "euler_at_final": _FLAG,
    "use_lu_lambdas": either(_NULL, _FLAG),
    "use_karras_sigmas": either(_NULL, _FLAG),
    "use_exponential_sigmas": either(_NULL, _FLAG),
    "use_beta_sigmas": either(_NULL, _FLAG),
    "use_flow_sigmas": either(_NULL, _FLAG),
}

# Source of the names: the signature of transformers.EfficientNetConfig.
_STAGES = (2, 16)
IMAGE_ENCODER = {
    **_NOTES,
    "model_type": word("efficientnet"),
    "architectures": either(_NULL, many(word(), 0, 4)),
    "dtype": either(_NULL, word("float32", "float16", "bfloat16")),
    "torch_dtype": either(_NULL, word("float32", "float16", "bfloat16")),
    "id2label": _NAMES,
    "label2id": _NAMES,
    "num_labels": whole(0, 100_000),
    "num_channels": whole(3, 3),  # the gray photo three times
    "image_size": either(whole(32, 4096), many(whole(32, 4096), 2, 2)),
    "width_coefficient": real(0.1, 4),
    "depth_coefficient": real(0.1, 4),
    "depth_divisor": whole(1, 64),
    "kernel_sizes": many(either(*(whole(size, size) for size in (1, 3, 5, 7, 9))), *_STAGES),
    "in_channels": many(whole(1, 2048), *_STAGES),
    "out_channels": many(whole(1, 2048), *_STAGES),
    "depthwise_padding": many(whole(0, 1000), 0, 1000),
    "strides": many(whole(1, 2), *_STAGES),
    "num_block_repeats": many(whole(1, 16), *_STAGES),
    "expand_ratios": many(whole(1, 16), *_STAGES),
    "squeeze_expansion_ratio": real(1e-9, 1),
    "hidden_act": word(),
    "hidden_dim": whole(1, 8192),
    "pooling_type": word("mean", "max"),
    "initializer_range": real(0, 1),
    "batch_norm_eps": real(1e-12, 0.1),
    "batch_norm_momentum": real(0, 1),
    "dropout_rate": real(0, 0.99),
    "drop_connect_rate": real(0, 0.99),
    "num_hidden_layers": whole(1, 2048),
}

COMPONENTS = {"unet": UNET, "scheduler": SCHEDULER, "image_encoder": IMAGE_ENCODER}

_BRIEF = reprlib.Repr()
_BRIEF.maxlevel, _BRIEF.maxlist, _BRIEF.maxdict, _BRIEF.maxstring = 2, 4, 2, 60


def check_values(values: Mapping[str, object], table: Mapping[str, Rule], place: str) -> None:
    """
    Hold each value against its rule.

    Args:
        values (`dict`): A configuration, as JSON gives it.
        table (`dict` of [`Rule`]): One of the tables above.
        place (`str`): Where the values come from, for the message.

    Raises:
        `ValueError`: naming the first value that may not be.
    """
    for name, value in values.items():
        rule = table.get(name, _SMALL)
        if not rule.allows(value):
            words = (
                rule.words
                if name in table
                else "null, true, false, a word, a number up to a million or a list of these"
            )
            raise ValueError(f"{place}: {_BRIEF.repr(name)} must be {words}, but is {_BRIEF.repr(value)}. {REMEDY}")


def count_features(strides: Sequence[int], out_channels: Sequence[int]) -> int:
    """
    Count the channels that an image encoder adds to the input of the U-Net: those of its last two sizes.

    They are those of its last stage before the last that halves the size, and those of its last stage.

    Args:
        strides (list of `int`), out_channels (list of `int`): Of each stage, as the encoder's configuration has them.

    Raises:
        `ValueError`: if these are not as many, no stage after the first halves the size, or more than four do: with
        the stem that makes 32, of which what the encoder sees is a multiple.
    """
    halving = [stage for stage, stride in enumerate(strides) if stride == 2]
    if len(strides) != len(out_channels) or not halving or halving[-1] == 0 or len(halving) > 4:
        raise ValueError(
            "image_encoder/config.json: 'strides' must hold one to four 2, the last of them after the first stage, and"
            f" as many entries as 'out_channels', but they are {_BRIEF.repr(strides)} and {_BRIEF.repr(out_channels)}."
            f" {REMEDY}"
        )
    return out_channels[halving[-1] - 1] + out_channels[-1]
