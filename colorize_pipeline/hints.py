"""Colors that the user knows, as planes beside the luminance."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageColor

from .color import rgb_to_chroma


def hints_to_planes(
    hints: Image.Image | list | None,
    photo_size: tuple[int, int],
    chroma_size: tuple[int, int],
    padded_size: tuple[int, int],
) -> torch.Tensor:
    """
    Bring the colors that the user knows to the network's planes.

    Args:
        hints (`PIL.Image.Image`, list of points, or `None`):
            An RGBA image laid over the photo, opaque where the color is known; or points `(x, y, color)` in
            pixels of the photo, with `color` as `(red, green, blue)` codes or a CSS color such as `"#7a3b1c"`.
        photo_size (`tuple`): `(height, width)` of the photo.
        chroma_size (`tuple`): `(rows, columns)` of its chroma.
        padded_size (`tuple`): The same with padding.

    Returns:
        `torch.Tensor` of shape `(3, *padded_size)`: Cb and Cr in `[-0.5, 0.5]`, 0 where unknown, and a mask in
        `{0, 1}`.

    Raises:
        `ValueError`: for points outside of the photo, images without alpha, and colors that cannot be read.
    """
    planes = torch.zeros(3, *padded_size)  # (3, h, w)
    rows, columns = chroma_size
    if isinstance(hints, Image.Image):
        if "A" not in hints.mode:
            raise ValueError(
                f"`hints` as an image must have an alpha channel, opaque where the color is known, but its mode is"
                f" {hints.mode!r}. Paint on a transparent layer, or pass points `[(x, y, color), ...]`."
            )
        rgba = torch.from_numpy(np.array(hints.convert("RGBA"))).permute(2, 0, 1)[None].float() / 255
        alpha = (rgba[:, 3:] >= 0.5).float()  # (1, 1, H, W)
        weighted = torch.cat((rgb_to_chroma(rgba[:, :3]) * alpha, alpha), dim=1)
        weighted = F.interpolate(weighted, size=chroma_size, mode="area")[0]  # (3, rows, columns)
        known = weighted[2] > 0
        planes[:2, :rows, :columns] = torch.where(known, weighted[:2] / weighted[2].clamp(min=1e-6), 0)
        planes[2, :rows, :columns] = known.float()
        return planes
    if not isinstance(hints, (list, tuple, type(None))):
        raise ValueError(f"`hints` must be an image or a list of points (x, y, color), got {type(hints).__name__}.")
    for point in hints or ():
        try:
            x, y, color = point
            red, green, blue = ImageColor.getrgb(color)[:3] if isinstance(color, str) else color
            rgb = torch.tensor([red, green, blue]).view(1, 3, 1, 1) / 255
            inside = 0 <= x < photo_size[1] and 0 <= y < photo_size[0] and 0 <= rgb.min() and rgb.max() <= 1
        except (TypeError, ValueError) as error:
            raise ValueError(f"`hints` must hold points (x, y, color), but got {point!r}: {error}.") from error
        if not inside:
            raise ValueError(
                f"`hints` holds the point {point!r}, but the photo is {photo_size[1]} x {photo_size[0]} pixels and"
                " colors are codes from 0 to 255."
            )
        row, column = int(y * rows / photo_size[0]), int(x * columns / photo_size[1])
        planes[:2, row, column] = rgb_to_chroma(rgb)[0, :, 0, 0]
        planes[2, row, column] = 1
    return planes
