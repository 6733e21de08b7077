"""Between the user's photos and the network's planes: codes in, luminance and hints through, colored codes out."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from .color import join, resize_matrix, rgb_to_luma
from .image_encoder import ENCODER_STRIDE


_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")

# An error in units of CIEDE2000 that is shown as white in the map of doubt.
_WHITE_UNCERTAINTY = 40

# In units of the resolution: a line of pixels would be padded to many times the area. Reached from 1 : 256 on.
_LONGEST_SIDE = 16


def build_model_input(
    sample: torch.Tensor,
    luminance: torch.Tensor,
    hints: torch.Tensor | None = None,
    features: torch.Tensor | None = None,
) -> torch.Tensor:
    """
    Put everything the network sees on its channel axis, in training and in inference.

    Args:
        sample (`torch.Tensor` of shape `(batch_size, 2 or 3, height, width)`):
            The noisy chroma (or RGB), in the unit of the network.
        luminance (`torch.Tensor` of shape `(batch_size, 1, k * height, k * width)`):
            The gray photo in `[-1, 1]`; each k x k patch becomes k * k channels.
        hints (`torch.Tensor` of shape `(batch_size, 3, height, width)`, *optional*):
            Known chroma in the unit of the network, and its mask.
        features (`torch.Tensor` of shape `(batch_size, features, height, width)`, *optional*):
            What the image encoder sees in the photo.

    Returns:
        `torch.Tensor` of shape `(batch_size, channels, height, width)`: sample | luminance | features | hints, in
        memory channels last, as convolutions are fastest with.
    """
    patch = luminance.shape[-1] // sample.shape[-1]
    planes = [sample, F.pixel_unshuffle(luminance, patch), features, hints]
    # Each by itself: features lie so already, and to turn the hundreds of channels afterwards takes long.
    planes = [plane.contiguous(memory_format=torch.channels_last) for plane in planes if plane is not None]
    return torch.cat(planes, dim=1)


def _scale_to_area(photo_size: tuple[int, int], resolution: int) -> float:
    """Give the factor that brings a photo to the area of a square, or a thin one at least near it."""
    height, width = photo_size
    return min(resolution / math.sqrt(height * width), _LONGEST_SIDE * resolution / max(height, width))


class ColorizationImageProcessor:
    """
    Move images between the user's world and the network's.

    The user's world is a photo of any size, mode and depth, of which the integer luma codes are kept. The network's is
    a luminance plane in `[-1, 1]` whose sides are multiples of what the U-Net halves, and chroma at
    `1 / luminance_patch` of its size. The processor keeps no state between calls.

    Args:
        luminance_patch (`int`):
            Luma pixels along a side that one chroma sample covers.
        size_multiple (`int`):
            Chroma planes are padded to a multiple of this: `2 ** (levels - 1)` of the U-Net, or its skip connections
            do not line up.
    """

    def __init__(self, luminance_patch: int, size_multiple: int):
        self.luminance_patch = luminance_patch
        self.size_multiple = size_multiple

    def split(self, image) -> list:
        """
        Give a list of single images for whatever the user passed.

        Args:
            image: A `PIL.Image.Image`; an array `(height, width)`, `(height, width, channels)` or with a batch
                dimension before these; a tensor `(height, width)`, `(channels, height, width)` or with a batch
                dimension before these; or a list of any of them.

        Raises:
            `ValueError`: for anything else.
        """
        if isinstance(image, (list, tuple)):
            return [single for entry in image for single in self.split(entry)]
        if isinstance(image, (np.ndarray, torch.Tensor)) and image.ndim == 4:
            return list(image)
        return [image]

    def to_codes(self, image: Image.Image | np.ndarray | torch.Tensor, mode: str, name: str = "image") -> torch.Tensor:
        """
        Read one image as integer codes.

        Args:
            image (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`):
                One image as in [`split`]. Arrays and tensors hold `uint8` or `uint16` codes, booleans, or floats in
                `[0, 1]`, which become 16-bit codes. Alpha is not looked at.
            mode (`str`):
                `"L"` for the luma, `"RGB"` for the colors.
            name (`str`, *optional*, defaults to `"image"`):
                The argument it came as, for the messages of errors.

        Returns:
            `torch.Tensor` of shape `(height, width)` or `(height, width, 3)`, `uint8` or `uint16`.

        Raises:
            `ValueError`: for modes, shapes, types and values that are none of these.
        """
        if isinstance(image, Image.Image):
            if 0 in image.size:
                raise ValueError(f"`{name}` must have at least one pixel, but its size is {image.size}.")
            if image.mode in _EIGHT_BIT_MODES:
                return torch.from_numpy(np.array(image.convert(mode)))
            if image.mode not in (*_SIXTEEN_BIT_MODES, "I"):
                raise ValueError(
                    f"`{name}` has mode {image.mode!r}, but must be 16-bit gray or {', '.join(_EIGHT_BIT_MODES)}."
                    " Convert it first, for example with `image.convert('RGB')`."
                )
            # Pillow's own convert("L") would clip 16 bit to 8, so the array is read instead.
            array = np.asarray(image)
            if array.min() < 0 or array.max() > 65535:
                raise ValueError(
                    f"`{name}` of mode 'I' must hold codes in [0, 65535], but holds {array.min()} to {array.max()}."
                )
            codes = torch.from_numpy(array.astype(np.uint16))[..., None]
        elif isinstance(image, (np.ndarray, torch.Tensor)):
            codes = self._array_to_codes(image, name)
        else:
            raise ValueError(
                f"`{name}` must be a PIL image, a NumPy array, a torch tensor or a list of these, but got"
                f" {type(image).__name__}. To colorize a file, open it first with `PIL.Image.open(path)`."
            )
        if codes.shape[2] < 3:  # gray, or gray and alpha
            return codes[:, :, 0] if mode == "L" else codes[:, :, :1].expand(-1, -1, 3)
        return rgb_to_luma(codes[:, :, :3]) if mode == "L" else codes[:, :, :3]

    def _array_to_codes(self, array: np.ndarray | torch.Tensor, name: str) -> torch.Tensor:
        if isinstance(array, torch.Tensor):
            layout, codes = "(channels, height, width)", array.detach().cpu()
            codes = codes.permute(1, 2, 0) if codes.ndim == 3 else codes
        else:
            array = array.astype(array.dtype.newbyteorder("="))  # a copy, in this machine's order of bytes
            layout, codes = "(height, width, channels)", torch.from_numpy(array)
        codes = codes[:, :, None] if codes.ndim == 2 else codes  # (H, W, C)
        if codes.ndim != 3 or codes.shape[2] not in (1, 2, 3, 4) or 0 in codes.shape:
            raise ValueError(
                f"`{name}` must be of shape (height, width) or {layout} with 1 to 4 channels and at least one pixel,"
                f" but got shape={tuple(array.shape)}."
            )
        if codes.dtype in (torch.uint8, torch.uint16):
            return codes
        if codes.dtype == torch.bool:
            return codes.to(torch.uint8) * 255
        if not codes.is_floating_point():
            raise ValueError(
                f"`{name}` must hold uint8, uint16, bool or floats in [0, 1], but got dtype={array.dtype}."
            )
        codes = codes.float()
        if not (codes.min() >= 0 and codes.max() <= 1):  # also true of NaN
            raise ValueError(
                f"`{name}` of floats must lie in [0, 1], but ranges from {codes.min():.4g} to {codes.max():.4g}."
                " Divide 8-bit codes by 255 first."
            )
        return (codes * 65535).round().to(torch.uint16)

    def preprocess(self, luma: torch.Tensor, processing_resolution: int) -> tuple[torch.Tensor, tuple[int, int]]:
        """
        Shrink (or enlarge) a photo's luma to the network's size, aspect kept.

        Args:
            luma (`torch.Tensor` of shape `(height, width)`): Integer codes.
            processing_resolution (`int`): Side in pixels of the square with the area the network works on; 0 for the
                photo's own size.

        Returns:
            `tuple`: luminance `(1, h, w)` in `[-1, 1]`, its sides multiples of `luminance_patch * size_multiple`, and
            the size `(rows, columns)` of the chroma that belongs to the photo; what is beyond is padding.
        """
        patch = self.luminance_patch
        scale = _scale_to_area(luma.shape, processing_resolution) if processing_resolution else 1.0
        rows, columns = (max(1, round(side * scale / patch)) for side in luma.shape)
        luminance = self._resize(luma, [rows * patch, columns * patch])  # (1, 1, kr, kc)
        beyond = -columns % self.size_multiple
        # Halving a plane of two columns, oneDNN 3.12 reads past it (in bfloat16, with AMX), and gives NaN or worse.
        beyond = max(beyond, 2 * self.size_multiple - columns)
        padding = (0, beyond * patch, 0, -rows % self.size_multiple * patch)
        return F.pad(luminance, padding, mode="replicate")[0], (rows, columns)

    def preprocess_for_encoder(self, luma: torch.Tensor, encoder_resolution: int) -> torch.Tensor:
        """
        Shrink (or enlarge) a photo's luma to the size that the image encoder sees, aspect kept to a multiple of 32.

        Args:
            luma (`torch.Tensor` of shape `(height, width)`): Integer codes.
            encoder_resolution (`int`): Side in pixels of the square with the area the encoder sees.

        Returns:
            `torch.Tensor` of shape `(1, h, w)`: in `[-1, 1]`.
        """
        scale = _scale_to_area(luma.shape, encoder_resolution)
        size = [max(1, round(side * scale / ENCODER_STRIDE)) * ENCODER_STRIDE for side in luma.shape]
        return self._resize(luma, size)[0]

    def _resize(self, luma: torch.Tensor, size: list[int]) -> torch.Tensor:
        """Resample codes to luminance in `[-1, 1]`, `(1, 1, *size)`."""
        luminance = F.interpolate(luma.float()[None, None], size=size, mode="bicubic", antialias=True)
        return (2 / torch.iinfo(luma.dtype).max * luminance - 1).clamp(-1, 1)

    def preprocess_mask(
        self, mask: Image.Image | np.ndarray | torch.Tensor, photo_size: tuple[int, int]
    ) -> torch.Tensor:
        """
        Read where a photo is to be painted.

        Args:
            mask (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`): White where it is, black where it is not.
            photo_size (`tuple`): `(height, width)`, which the mask must have.

        Returns:
            `torch.Tensor` of shape `(height, width)`: `bool`, true from middle gray on.
        """
        codes = self.to_codes(mask, "L", name="mask_image")
        if codes.shape != photo_size:
            raise ValueError(
                f"`mask_image` must have the size of its photo, {photo_size}, but has {tuple(codes.shape)}."
            )
        return self.to_eight_bit(codes) >= 128

    def postprocess(
        self,
        photo: Image.Image | np.ndarray | torch.Tensor,
        luma: torch.Tensor,
        chroma: torch.Tensor,
        mask: torch.Tensor | None,
        output_type: str,
    ) -> Image.Image | np.ndarray | torch.Tensor:
        """
        Join chroma with a photo at full size, where it is to be painted.

        Args:
            photo (`PIL.Image.Image`, `np.ndarray` or `torch.Tensor`): As it came.
            luma (`torch.Tensor` of shape `(height, width)`): Its codes, `uint8` or `uint16`.
            chroma (`torch.Tensor` of shape `(2, rows, columns)`): In `[-0.5, 0.5]`, where 0 is gray.
            mask (`torch.Tensor` of shape `(height, width)`, or `None`): False where the photo stays as it came.
            output_type (`str`): As in [`to_output_type`]. `"pil"` holds 8 bit, so 16-bit luma is rounded to 8 first.

        Raises:
            `ValueError`: if `chroma` holds NaN, of which integer codes would make some color or other.
        """
        if chroma.isnan().any():
            raise ValueError(
                "The network painted NaN instead of colors: its weights are damaged, or its dtype is too small for it."
                " Load it with `dtype=torch.float32`, or take another checkpoint."
            )
        codes = join(self.to_eight_bit(luma) if output_type == "pil" else luma, chroma)
        if mask is not None:
            original = self.to_codes(photo, "RGB")
            original = self.to_eight_bit(original) if codes.dtype == torch.uint8 else original
            codes = torch.where(mask[:, :, None], codes, original)
        return self.to_output_type(codes, output_type)

    def to_eight_bit(self, codes: torch.Tensor) -> torch.Tensor:
        """Round 16-bit codes to 8 bit (white to white); 8-bit codes pass."""
        if codes.dtype == torch.uint8:
            return codes
        return ((codes.to(torch.int32) + 128) // 257).to(torch.uint8)

    def to_output_type(self, codes: torch.Tensor, output_type: str) -> Image.Image | np.ndarray | torch.Tensor:
        """
        Give RGB codes the form the user asked for.

        Args:
            codes (`torch.Tensor` of shape `(height, width, 3)`): `uint8` or `uint16`.
            output_type (`str`): `"pil"`, `"np"` (`(height, width, 3)`) or `"pt"` (`(3, height, width)`), these two
                `float32` in `[0, 1]`: codes / 255 or codes / 65535, exact enough that rounding gives the codes back.
        """
        if output_type == "pil":
            return Image.fromarray(codes.numpy())
        values = codes.float() / torch.iinfo(codes.dtype).max
        return values.numpy() if output_type == "np" else values.permute(2, 0, 1)

    def uncertainty_to_output_type(
        self, uncertainty: torch.Tensor, photo_size: tuple[int, int], output_type: str
    ) -> Image.Image | np.ndarray | torch.Tensor:
        """
        Bring a map of doubt to the size of its photo.

        Args:
            uncertainty (`torch.Tensor` of shape `(rows, columns)`): The error to expect, in units of CIEDE2000.
            photo_size (`tuple`): `(height, width)`.
            output_type (`str`): `"np"` and `"pt"` hold the error as `float32` `(height, width)`; `"pil"` is a gray
                image, white at 40 and above.
        """
        height, width = photo_size
        resized = (
            resize_matrix(uncertainty.shape[0], height) @ uncertainty @ resize_matrix(uncertainty.shape[1], width).T
        )
        resized = resized.clamp(min=0)  # bicubic kernels overshoot
        if output_type == "pil":
            return Image.fromarray((255 * resized / _WHITE_UNCERTAINTY).clamp(max=255).to(torch.uint8).numpy())
        return resized.numpy() if output_type == "np" else resized
