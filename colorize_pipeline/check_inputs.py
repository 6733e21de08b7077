"""What a call of the pipeline may ask for."""

from numbers import Integral, Real

import torch


_OUTPUT_TYPES = ("pil", "np", "pt", "chroma")


def check_inputs(
    photos: list,
    hints: list,
    masks: list,
    references: list,
    num_inference_steps: int,
    num_images_per_input: int,
    ensemble_size: int,
    output_uncertainty: bool,
    guidance_scale: float,
    spread: float,
    saturation: float,
    target_colorfulness: float | None,
    processing_resolution: int,
    generator: torch.Generator | list[torch.Generator] | None,
    output_type: str,
    has_image_encoder: bool,
) -> None:
    """
    Refuse what cannot be done, before any work. What is inside the images is checked as they are read.

    Args:
        photos (`list`): One entry for each photo.
        hints (`list`), masks (`list`), references (`list`): One entry for each photo, `None` where it has none.
        has_image_encoder (`bool`): Whether the checkpoint has one.
        The others: as in [`ColorizationPipeline.__call__`], with the checkpoint's own value where the call named none.

    Raises:
        `ValueError`: if an argument is out of range or does not fit the others.
    """
    if not photos:
        raise ValueError("`image` is an empty list; pass at least one photo.")
    for name, value in (
        ("num_inference_steps", num_inference_steps),
        ("num_images_per_input", num_images_per_input),
        ("ensemble_size", ensemble_size),
    ):
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"`{name}` must be an integer of at least 1, but got {value!r}.")
    if not isinstance(processing_resolution, Integral) or processing_resolution < 0:
        raise ValueError(
            "`processing_resolution` must be a number of pixels, or 0 for the photo's own size, but got"
            f" {processing_resolution!r}."
        )
    for name, value in (
        ("saturation", saturation),
        ("target_colorfulness", 0 if target_colorfulness is None else target_colorfulness),
        ("guidance_scale", guidance_scale),
        ("spread", spread),
    ):
        if not isinstance(value, Real) or not 0 <= value < float("inf"):
            raise ValueError(f"`{name}` must be a number of at least 0, but got {value!r}.")
    if target_colorfulness is not None and saturation != 1:
        raise ValueError(
            f"`target_colorfulness` chooses the saturation, but `saturation`={saturation} came too. Pass one."
        )
    if output_uncertainty and ensemble_size < 3:
        raise ValueError(
            f"`output_uncertainty` compares samples: `ensemble_size` must be at least 3, but got {ensemble_size}."
        )
    if output_type not in _OUTPUT_TYPES:
        raise ValueError(f"`output_type` must be one of {', '.join(_OUTPUT_TYPES)}, but got {output_type!r}.")
    if not isinstance(generator, (torch.Generator, list, type(None))):
        raise ValueError(f"`generator` must be a `torch.Generator` or a list of them, but got {generator!r}.")
    if isinstance(generator, list) and len(generator) != len(photos) * num_images_per_input:
        raise ValueError(
            f"`generator` must hold one `torch.Generator` per image returned: got {len(generator)} for"
            f" {len(photos)} photos x {num_images_per_input} versions. Pass a single generator to share it, or"
            " `[torch.Generator().manual_seed(s) for s in seeds]`."
        )
    for name, values in (("hints", hints), ("mask_image", masks), ("reference_image", references)):
        if not isinstance(values, (list, tuple)) or len(values) != len(photos):
            raise ValueError(f"`{name}` must be a list of one entry for each of the {len(photos)} photos.")
    if any(reference is not None for reference in references) and not has_image_encoder:
        raise ValueError(
            "`reference_image` came, but this checkpoint has no image encoder, which finds what looks alike. Use"
            " another one."
        )
