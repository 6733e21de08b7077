"""The colorization pipeline: gray photo in, color photo out."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin, UNet2DModel
from PIL import Image
from torch.nn import functional as F
from transformers import EfficientNetModel

# The Hub's loader of remote code copies only the siblings that this very file imports in this form: what
# image_processor needs of color would not be found if it were not imported here too.
from .brush import Brush  # noqa: F401
from .check_inputs import check_inputs
from .color import rgb_to_chroma
from .denoising import denoise
from .doubt import expected_error
from .hint_propagation import finish_chroma
from .hint_regression import follow_known
from .hints import fit_to_gamut, read_hints
from .image_encoder import encode_luminance, feature_channels
from .image_processor import ColorizationImageProcessor
from .likeness import find_likeness
from .model_bounds import NUMBERS, check_values
from .model_folder import fetch_model
from .model_trial import check_finite, try_components
from .motion import warp  # noqa: F401
from .pipeline_output import ColorizationPipelineOutput
from .reference_matching import match_reference
from .scenes import follow  # noqa: F401
from .video import colorize_video


class ColorizationPipeline(DiffusionPipeline):
    """
    Colorize gray photographs with a conditional diffusion model.

    Only the two chroma planes are generated, at low resolution; the gray of the photo is kept code for code.

    Args:
        unet (`UNet2DModel`):
            Denoiser of chroma (2 output channels) or of RGB (3), conditioned on luminance by channel concatenation.
        scheduler (`SchedulerMixin`):
            Any diffusers scheduler that is set to the prediction type of the network.
        image_encoder (`EfficientNetModel`, *optional*):
            Sees what is in the photo, once per photo; its features are input channels of the network. `None` for a
            network without such channels.
        chroma_scale (`float`, *optional*, defaults to 0.14):
            Chroma in `[-0.5, 0.5]` is divided by this for the network. Not used by a network of RGB.
        luminance_patch (`int`, *optional*, defaults to 4):
            Luma pixels along a side that one position of the network sees.
        default_num_inference_steps (`int`, *optional*, defaults to 8):
            Steps when the call names none: what this checkpoint does best with.
        default_processing_resolution (`int`, *optional*, defaults to 192):
            Processing resolution when the call names none: what this checkpoint does best at.
        default_guidance_scale (`float`, *optional*, defaults to 1.0):
            Guidance scale when the call names none.
        default_spread (`float`, *optional*, defaults to 1.0):
            Spread when the call names none.
        encoder_resolution (`int`, *optional*, defaults to 192):
            Side in pixels of the square with the area that the image encoder sees.
        doubt_scale (`float`, *optional*, defaults to 1.0), doubt_floor (`float`, *optional*, defaults to 0.0):
            The error to expect is the floor and so many times the CIEDE2000 difference of samples. The defaults are
            those of a model whose samples are as likely as the truth; `train/calibrate_doubt.py` measures them.
        doubt_bound (`float`, *optional*, defaults to 1.5):
            Four errors of five are smaller than so many times the error to expect.
    """

    model_cpu_offload_seq = "image_encoder->unet"
    _optional_components = ["image_encoder"]

    def __init__(
        self,
        unet: UNet2DModel,
        scheduler: SchedulerMixin,
        image_encoder: EfficientNetModel | None = None,
        chroma_scale: float = 0.14,
        luminance_patch: int = 4,
        default_num_inference_steps: int = 8,
        default_processing_resolution: int = 192,
        default_guidance_scale: float = 1.0,
        default_spread: float = 1.0,
        encoder_resolution: int = 192,
        doubt_scale: float = 1.0,
        doubt_floor: float = 0.0,
        doubt_bound: float = 1.5,
    ):
        super().__init__()
        sample_channels = unet.config.out_channels
        features = 0 if image_encoder is None else feature_channels(image_encoder.config)
        hint_channels = unet.config.in_channels - sample_channels - luminance_patch**2 - features
        if sample_channels not in (2, 3) or hint_channels not in (0, 3):
            raise ValueError(
                f"`unet` must have 2 output channels (chroma) or 3 (RGB), and as many inputs plus {luminance_patch**2}"
                f" for luminance (`luminance_patch`={luminance_patch}) and {features} for the features of"
                f" `image_encoder`, plus 3 if it takes hints; but it has"
                f" {unet.config.in_channels} inputs and {sample_channels} outputs. Build it with `create_unet`."
            )
        self.register_modules(unet=unet, scheduler=scheduler, image_encoder=image_encoder)
        self.register_to_config(
            chroma_scale=chroma_scale,
            luminance_patch=luminance_patch,
            default_num_inference_steps=default_num_inference_steps,
            default_processing_resolution=default_processing_resolution,
            default_guidance_scale=default_guidance_scale,
            default_spread=default_spread,
            encoder_resolution=encoder_resolution,
            doubt_scale=doubt_scale,
            doubt_floor=doubt_floor,
            doubt_bound=doubt_bound,
        )
        self.accepts_hints = hint_channels == 3
        self.image_processor = ColorizationImageProcessor(
            luminance_patch, size_multiple=2 ** (len(unet.config.block_out_channels) - 1)
        )
        self._interrupt = False

    colorize_video = colorize_video

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs) -> "ColorizationPipeline":
        """
        Load a pipeline from a folder or from the Hub. All arguments are those of `DiffusionPipeline.from_pretrained`.

        Raises:
            `ValueError`, or `OSError` of the Hub: in one line, if that is no colorization pipeline in safetensors.
        """
        check_values({name: kwargs[name] for name in NUMBERS if name in kwargs}, NUMBERS, "from_pretrained")
        arguments = {"use_safetensors": True, **kwargs}
        folder = try_components(fetch_model(cls, pretrained_model_name_or_path, arguments), arguments)
        pipeline = super().from_pretrained(folder, **arguments)
        check_finite(pipeline.components)
        pipeline.register_to_config(_name_or_path=str(pretrained_model_name_or_path))
        return pipeline

    @property
    def interrupt(self) -> bool:
        """Whether a step callback has asked to stop, by setting `pipe._interrupt = True`."""
        return self._interrupt

    @torch.no_grad()
    def __call__(
        self,
        image: Image.Image | np.ndarray | torch.Tensor | list,
        *,
        hints: Image.Image | list | None = None,
        mask_image: Image.Image | np.ndarray | torch.Tensor | list | None = None,
        reference_image: Image.Image | np.ndarray | torch.Tensor | list | None = None,
        num_inference_steps: int | None = None,
        num_images_per_input: int = 1,
        ensemble_size: int = 1,
        output_uncertainty: bool = False,
        guidance_scale: float | None = None,
        spread: float | None = None,
        saturation: float = 1.0,
        target_colorfulness: float | None = None,
        processing_resolution: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "pil",
        callback_on_step_end: Callable[..., dict] | None = None,
        return_dict: bool = True,
    ) -> ColorizationPipelineOutput | tuple:
        """
        Colorize one photo or many.

        Args:
            image (`PIL.Image.Image`, `np.ndarray`, `torch.Tensor` or a list of these):
                Photos of any size and mode; of color photos the gray is taken. Arrays are `(height, width)`,
                `(height, width, channels)` or batches of the latter, tensors `(height, width)`, `(channels, height,
                width)` or batches; both hold `uint8` or `uint16` codes or floats in `[0, 1]`.
            hints (`PIL.Image.Image`, list of points, or a list of either per photo, *optional*):
                Colors that are known: an RGBA image laid over the photo, opaque where the color is known, or points
                `(x, y, color)` in pixels of the photo with `color` as 8-bit `(red, green, blue)` or a CSS color. These
                pixels get the hue and chroma asked for, and what they lie on follows; points on several things also
                correct the rest. A warning tells if that color does not exist at the brightness of the photo there;
                then the nearest of its hue is taken.
            mask_image (like `image`, *optional*):
                White where the photo is painted, black where it stays as it came; of the size of its photo.
            reference_image (like `image`, *optional*):
                A color photo of any size: its colors are carried over to what looks like the same thing, as far as
                anything does. One for all photos, or a list of one (or `None`) for each. Needs an image encoder.
            num_inference_steps (`int`, *optional*):
                Denoising steps. 1 gives the mean of all answers, dull but safe; more give one answer. Defaults to the
                checkpoint's own number.
            num_images_per_input (`int`, *optional*, defaults to 1):
                Versions of each photo.
            ensemble_size (`int`, *optional*, defaults to 1):
                Samples drawn for each version, of which the most central one is kept.
            output_uncertainty (`bool`, *optional*, defaults to `False`):
                Return maps of the error to expect, by how much the samples of each ensemble differ from the one
                that is kept; needs `ensemble_size` of at least 3.
            guidance_scale (`float`, *optional*):
                Classifier-free guidance: 1 is none, more follows the photo more closely than the model alone would.
                Defaults to the checkpoint's own.
            spread (`float`, *optional*):
                How far answers lie from the mean of all answers: 1 is as drawn, 0 the mean itself, and between them
                colors are less bold and more often right. Defaults to the checkpoint's own.
            saturation (`float`, *optional*, defaults to 1.0):
                Factor for the painted chroma, at least 0: 0 is gray, 2 is vivid. The gray of the photo stays in any
                case, and so do the colors of `hints`.
            target_colorfulness (`float`, *optional*):
                Choose the saturation that brings each photo to this colorfulness (Hasler and Süsstrunk; 30 to 45 is
                usual), as far as RGB reaches. Replaces `saturation`.
            processing_resolution (`int`, *optional*):
                Side in pixels of the square with the area the network works on; 0 is the photo's own size. Defaults to
                the checkpoint's own.
            generator (`torch.Generator` or list of them, *optional*):
                The only source of randomness. A list holds one for each image returned, and makes each independent of
                the others in its batch.
            output_type (`str`, *optional*, defaults to `"pil"`):
                `"pil"` (8 bit), `"np"` `(height, width, 3)` or `"pt"` `(3, height, width)`, these two `float32` in
                `[0, 1]` at the depth of the input; `"chroma"` joins nothing, and `images` stays empty.
            callback_on_step_end (callable, *optional*):
                Called as `callback(pipe, step, timestep, {"sample": sample})` after each step; may return a dictionary
                with another `sample`, and stop the run by setting `pipe._interrupt = True`; photos of another shape
                that wait for their turn then come back gray.
            return_dict (`bool`, *optional*, defaults to `True`):
                `False` returns the tuple `(images, chroma, uncertainty)`.

        Returns:
            [`ColorizationPipelineOutput`], or a tuple of its fields.

        Raises:
            `ValueError`: if an argument is out of range or does not fit the others.

        Examples:
            >>> from PIL import Image, ImageOps
            >>> from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline

            >>> pipe = ColorizationPipeline.from_pretrained(DEFAULT_CHECKPOINT)
            >>> color = pipe(ImageOps.exif_transpose(Image.open("photo.jpg"))).images[0]
        """
        # 0. What the call leaves open is what the checkpoint does best with
        if num_inference_steps is None:
            num_inference_steps = self.config.default_num_inference_steps
        if processing_resolution is None:
            processing_resolution = self.config.default_processing_resolution
        if guidance_scale is None:
            guidance_scale = self.config.default_guidance_scale
        if spread is None:
            spread = self.config.default_spread
        single_input = not isinstance(image, (list, tuple)) and getattr(image, "ndim", 0) != 4
        photos = self.image_processor.split(image)
        hints = [None] * len(photos) if hints is None else [hints] if single_input else hints
        masks = [None] * len(photos) if mask_image is None else self.image_processor.split(mask_image)
        references = self.image_processor.split(reference_image)
        if len(references) == 1 and not isinstance(reference_image, (list, tuple)):
            references = references * len(photos)

        # 1. Check
        check_inputs(
            photos, hints, masks, references, num_inference_steps, num_images_per_input, ensemble_size,
            output_uncertainty, guidance_scale, spread, saturation, target_colorfulness, processing_resolution,
            generator, output_type, self.image_encoder is not None,
        )  # fmt: skip
        device, samples_per_photo = self._execution_device, num_images_per_input * ensemble_size
        sample_unit = self.config.chroma_scale if self.unet.config.out_channels == 2 else 1.0
        self._interrupt = False

        # 2. Photos to luma (full size, integer codes) and luminance (the network's size, [-1, 1]); hints to pixels
        lumas = [self.image_processor.to_codes(photo, "L") for photo in photos]
        known = [read_hints(hint, tuple(luma.shape)) for hint, luma in zip(hints, lumas, strict=True)]
        known = fit_to_gamut(known, lumas)
        luminances, chroma_sizes, features, painted, likenesses, matches = [], [], [], [], [], []
        for luma, colors, mask, reference in zip(lumas, known, masks, references, strict=True):
            luminance, chroma_size = self.image_processor.preprocess(luma, processing_resolution)
            padded_size = [side // self.config.luminance_patch for side in luminance.shape[1:]]
            luminances.append(luminance)
            chroma_sizes.append(chroma_size)
            features.append(self.encode(luma, chroma_size, padded_size))
            painted.append(None if mask is None else self.image_processor.preprocess_mask(mask, tuple(luma.shape)))
            likenesses.append(None if colors is None else find_likeness(self, luma, colors))
            matches.append(None if reference is None else match_reference(self, luma, reference, chroma_size))

        # 3. Photos whose planes have the same size go through the network together
        groups = defaultdict(list)
        for index, luminance in enumerate(luminances):
            groups[luminance.shape].append(index)
        samples = [None] * len(photos)
        with self.progress_bar(total=num_inference_steps * len(groups)) as progress_bar:
            for indices in groups.values():
                luminance = torch.stack([luminances[index] for index in indices])
                luminance = luminance.repeat_interleave(samples_per_photo, dim=0).to(device)  # (B, 1, kh, kw)
                feature = torch.stack([features[index] for index in indices])
                feature = feature.repeat_interleave(samples_per_photo, dim=0)  # (B, F, h, w)
                group_generator = generator
                if isinstance(generator, list):
                    group_generator = [
                        generator[index * num_images_per_input + version]
                        for index in indices
                        for version in range(num_images_per_input)
                        for _ in range(ensemble_size)
                    ]
                sample = denoise(
                    self, luminance, feature, num_inference_steps, guidance_scale, spread, group_generator,
                    callback_on_step_end, progress_bar,
                )  # fmt: skip
                sample = sample.float().cpu().unflatten(0, (len(indices), num_images_per_input, ensemble_size))
                for index, versions in zip(indices, sample, strict=True):
                    samples[index] = versions  # (versions, ensemble, C, h, w)

        # 4. Unpad, bring to chroma, keep the most central sample of each ensemble, finish it, join it with the photo
        images, chromas, uncertainties = [], [], []
        for photo, luma, colors, likeness, mask, match, size, versions in zip(
            photos, lumas, known, likenesses, painted, matches, chroma_sizes, samples, strict=True
        ):
            for ensemble in versions[..., : size[0], : size[1]]:
                if self.unet.config.out_channels == 3:
                    ensemble = rgb_to_chroma((ensemble.clamp(-1, 1) + 1) / 2)
                else:
                    ensemble = (ensemble * sample_unit).clamp(-0.5, 0.5)  # (E, 2, rows, columns)
                if match is not None:
                    ensemble = torch.lerp(ensemble, match[:2], match[2])
                if likeness is not None:
                    ensemble = torch.stack([follow_known(each, luma, colors, likeness) for each in ensemble])
                distances = torch.cdist(ensemble.flatten(1), ensemble.flatten(1))
                central = int(distances.sum(dim=1).argmin())
                chroma = finish_chroma(luma, ensemble[central], colors, saturation, target_colorfulness, likeness)
                chromas.append(chroma)
                if output_type == "chroma":
                    continue
                images.append(self.image_processor.postprocess(photo, luma, chroma, mask, output_type))
                if output_uncertainty:
                    others = torch.cat((ensemble[:central], ensemble[central + 1 :]))
                    doubt = expected_error(luma, chroma, others, self.config.doubt_scale, self.config.doubt_floor)
                    uncertainties.append(
                        self.image_processor.uncertainty_to_output_type(doubt, tuple(luma.shape), output_type)
                    )

        # 5. Release and return
        self.maybe_free_model_hooks()
        output = ColorizationPipelineOutput(images, chromas, uncertainties if output_uncertainty else None)
        return output if return_dict else (output.images, output.chroma, output.uncertainty)

    def encode(self, luma: torch.Tensor, chroma_size: tuple[int, int], padded_size: tuple[int, int]) -> torch.Tensor:
        """
        Describe every place of one photo by the features of the image encoder.

        Args:
            luma (`torch.Tensor` of shape `(height, width)`): Integer codes.
            chroma_size (`tuple`): `(rows, columns)` of its chroma.
            padded_size (`tuple`): The same with padding.

        Returns:
            `torch.Tensor` of shape `(features, *padded_size)`: on the device of the encoder; no features without one.
        """
        if self.image_encoder is None:
            return torch.zeros(0, *padded_size, device=self._execution_device)
        luminance = self.image_processor.preprocess_for_encoder(luma, self.config.encoder_resolution)
        features = encode_luminance(self.image_encoder, luminance[None].to(self._execution_device), chroma_size)
        padding = (0, padded_size[1] - chroma_size[1], 0, padded_size[0] - chroma_size[0])
        return F.pad(features, padding, mode="replicate")[0]
