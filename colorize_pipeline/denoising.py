"""The loop from pure noise to a sample of colors."""

import inspect
from collections.abc import Callable

import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.utils.torch_utils import randn_tensor

from .image_processor import build_model_input


def denoise(
    pipeline: DiffusionPipeline,
    luminance: torch.Tensor,
    features: torch.Tensor,
    num_inference_steps: int,
    guidance_scale: float,
    spread: float,
    generator: torch.Generator | list[torch.Generator] | None,
    callback_on_step_end: Callable[..., dict] | None,
    progress_bar,
) -> torch.Tensor:
    """
    Draw one sample for each luminance plane, from pure noise.

    Args:
        pipeline (`ColorizationPipeline`): Its network and scheduler are used; `pipeline.interrupt` ends the loop.
        luminance (`torch.Tensor` of shape `(batch_size, 1, k * height, k * width)`): In `[-1, 1]`.
        features (`torch.Tensor` of shape `(batch_size, features, height, width)`): Of the image encoder; none without.
        The others: as in [`ColorizationPipeline.__call__`].

    Returns:
        `torch.Tensor` of shape `(batch_size, 2 or 3, height, width)`: In the unit of the network.

    Raises:
        `ValueError`: if the scheduler cannot space so many steps, or does not tell the mean that `spread` needs.
    """
    unet, scheduler = pipeline.unet, pipeline.scheduler
    scheduler.set_timesteps(num_inference_steps, device=luminance.device)
    if scheduler.timesteps[-1] < 0:  # rounding makes 62 timesteps of 61, and so for 61 other numbers
        raise ValueError(
            f"`num_inference_steps` {num_inference_steps} is a number that the scheduler cannot space evenly. Take"
            " another near it."
        )
    shape = (len(luminance), unet.config.out_channels, *features.shape[2:])
    if pipeline.interrupt:  # while another group was painted: these photos stay gray
        return torch.zeros(shape)
    sample = randn_tensor(shape, generator=generator, device=luminance.device, dtype=torch.float32)
    sample = sample * scheduler.init_noise_sigma
    # Known colors are not told to the network: it hardly follows them at their places, but takes them for the palette
    # of the whole photo, and so moves what nobody touched. They are spread afterwards, by `hint_propagation`.
    hints = luminance.new_zeros(len(luminance), 3, *features.shape[2:]) if pipeline.accepts_hints else None
    step_arguments = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        step_arguments["generator"] = generator
    # Hundreds of channels stay the same: they are put together once.
    model_input = build_model_input(sample, luminance, hints, features).to(unet.dtype)

    for step, t in enumerate(scheduler.timesteps):
        if pipeline.interrupt:
            break
        scaled = scheduler.scale_model_input(sample, t)
        model_input[:, : scaled.shape[1]] = scaled
        model_output = unet(model_input, t, return_dict=False)[0].float()
        if guidance_scale != 1:
            without_condition = torch.zeros_like(model_input)  # as in training
            without_condition[:, : scaled.shape[1]] = scaled
            unconditional = unet(without_condition, t, return_dict=False)[0].float()
            model_output = unconditional + guidance_scale * (model_output - unconditional)
        if step == 0 and spread != 1:  # of pure noise x_0 is predicted as the mean of all answers
            mean = _predicted_mean(scheduler, model_output, t, sample)
        sample = scheduler.step(model_output, t, sample, **step_arguments, return_dict=False)[0]
        if callback_on_step_end is not None:
            returned = callback_on_step_end(pipeline, step, t, {"sample": sample}) or {}
            sample = returned.pop("sample", sample)
        # Schedulers of second order visit some timesteps twice; the bar counts steps.
        if step + 1 == len(scheduler.timesteps) or (step + 1) % scheduler.order == 0:
            progress_bar.update()
    return sample if spread == 1 else mean + spread * (sample - mean)


def _predicted_mean(
    scheduler: SchedulerMixin, model_output: torch.Tensor, t: torch.Tensor, sample: torch.Tensor
) -> torch.Tensor:
    """Give the x_0 that stands for a prediction of v (Source: Salimans and Ho 2022, appendix D)."""
    if scheduler.config.get("prediction_type") != "v_prediction" or not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"`spread` other than 1 needs a scheduler that is set to v_prediction, not {type(scheduler).__name__} with"
            f" {scheduler.config.get('prediction_type')!r}. Pass `spread=1`."
        )
    alpha_cumprod = scheduler.alphas_cumprod[int(t)].to(sample)
    return alpha_cumprod.sqrt() * sample - (1 - alpha_cumprod).sqrt() * model_output
