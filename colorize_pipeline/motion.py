"""Motion between two frames of a film, matched on luma: dense, at the resolution of chroma, in plain torch."""

import torch
import torch.nn.functional as F


# The coarsest level of the pyramid has a shorter side of at least this: there a step may be a fifth of the frame.
_COARSEST_SIDE = 8
_ITERATIONS = 3
# Side of the window that moves as one, in positions of its level.
_WINDOW = 11
# Luma is divided by its standard deviation and this (white = 1).
_LEAST_CONTRAST = 0.02
# In that unit: residuals well beyond the first count little (dust, what is covered); where luma varies less than the
# second from position to position motion is not changed; at the third (squared) it is half that of what is around.
_RESIDUAL_SCALE, _LEAST_GRADIENT, _CONFIDENT = 0.25, 0.04, 0.1
# A window's residual is accepted up to this noise (in codes / 255) and this share of what is in the window.
_NOISE, _SHARE = 0.035, 0.35
# Of windows of this side the greater part must be alike: dust and single reflections do not hide what they lie on.
_MAJORITY = 9
# Motion there and back may differ by this, in positions, and by this share of its length.
_TOLERANCE, _RELATIVE_TOLERANCE = 0.7, 0.06
# Motion below the first (in positions) is taken for noise, above the second for what it is: still scenes stay still.
_STILL, _MOVING = 0.05, 0.1


def estimate_motion(
    first: torch.Tensor, second: torch.Tensor, initial: torch.Tensor | None = None, iterations: int = _ITERATIONS
) -> torch.Tensor:
    """
    Find where each position of one frame lies in another.

    Windows are matched by Gauss-Newton steps from coarse to fine, with residuals weighted by how likely they belong to
    the same thing (Sources: Lucas and Kanade, IJCAI 1981; Black and Anandan 1996 for the weights).

    Args:
        first (`torch.Tensor`), second (`torch.Tensor`), both of shape `(batch_size, 1, height, width)`: Luma. Its
            exposure may differ between them: fades, flicker and flashes change mean and contrast, not what is there.
        initial (`torch.Tensor` of shape `(batch_size, 2, height, width)`, *optional*): Motion that is known
            roughly; it is refined at the finest level only.
        iterations (`int`, *optional*, defaults to 3): Steps at each level.

    Returns:
        `torch.Tensor` of shape `(batch_size, 2, height, width)`: x and y in positions, with `first(p)` being
        `second(p + motion(p))`.
    """
    scale = 1 / (first.std(dim=(2, 3), keepdim=True) + _LEAST_CONTRAST)
    pyramid = [tuple(_smooth(scale * frame) for frame in (first, second))]
    while initial is None and min(pyramid[-1][0].shape[2:]) >= 2 * _COARSEST_SIDE:
        pyramid.append(tuple(F.avg_pool2d(_even(level), 2) for level in pyramid[-1]))
    motion = torch.zeros_like(pyramid[-1][0]).repeat(1, 2, 1, 1) if initial is None else initial
    for one, other in reversed(pyramid):
        if motion.shape[2:] != one.shape[2:]:
            motion = 2 * F.interpolate(motion, size=one.shape[2:], mode="bilinear")
        for _ in range(iterations):
            warped = _expose(warp(other, motion), one)
            slope_y, slope_x = torch.gradient((warped + one) / 2, dim=(2, 3))
            # What is left to explain, and what each place of the window has been given already: so that all of it is
            # explained by one motion.
            explained = slope_x * motion[:, :1] + slope_y * motion[:, 1:]
            residual = one - warped
            weight = 1 / (1 + (residual / _RESIDUAL_SCALE).square()).square()
            target = residual + explained
            slopes = (slope_x * slope_x, slope_x * slope_y, slope_y * slope_y, slope_x * target, slope_y * target)
            xx, xy, yy, x, y = box(weight * torch.cat(slopes, dim=1), _WINDOW).unbind(dim=1)
            least = (xx + yy) / 2 - (((xx - yy) / 2).square() + xy.square()).sqrt()
            xx, yy = xx + _LEAST_GRADIENT**2, yy + _LEAST_GRADIENT**2
            x, y = x + _LEAST_GRADIENT**2 * motion[:, 0], y + _LEAST_GRADIENT**2 * motion[:, 1]
            determinant = xx * yy - xy * xy
            found = torch.stack(((yy * x - xy * y) / determinant, (xx * y - xy * x) / determinant), dim=1)
            motion = motion + (found - motion).clamp(-1, 1)
            # Where nothing is to be seen, or only an edge, motion follows what is around it.
            motion = spread(motion, (least / (least + _CONFIDENT))[:, None])
    return motion


def chain(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Give the motion from A to C of those from A to B and from B to C, each `(batch_size, 2, height, width)`."""
    return first + warp(second, first)


def settle(motion: torch.Tensor) -> torch.Tensor:
    """Take motion that is no more than noise for none."""
    length = motion.norm(dim=1, keepdim=True)
    return motion * ((length - _STILL) / (_MOVING - _STILL)).clamp(0, 1)


def match_quality(
    first: torch.Tensor, second: torch.Tensor, there: torch.Tensor, back: torch.Tensor, by_luma: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Tell where a frame shows what another shows: where motion comes back to where it started, and luma agrees.

    Args:
        first (`torch.Tensor`), second (`torch.Tensor`), both of shape `(batch_size, 1, height, width)`: Luma in
            `[0, 1]`.
        there (`torch.Tensor`), back (`torch.Tensor`), both of shape `(batch_size, 2, height, width)`: Motion from
            the first to the second, and the other way.
        by_luma (`bool`, *optional*, defaults to `True`): Whether luma must agree, too.

    Returns:
        `tuple`: `(batch_size, 1, height, width)`, 1 where it does and 0 where it does not; and `(batch_size,)`, the
        light of the first as a multiple of that of the second, in what both show.
    """
    height, width = there.shape[2:]
    grid = _positions(height, width, there)
    target = grid + there
    sides = torch.tensor([width, height], device=there.device).view(1, 2, 1, 1)
    inside = ((target >= -0.5) & (target <= sides - 0.5)).all(dim=1, keepdim=True)
    error = chain(there, back).norm(dim=1, keepdim=True)
    consistent = error <= _TOLERANCE + _RELATIVE_TOLERANCE * there.norm(dim=1, keepdim=True)
    warped = warp(second, there)
    known = (inside & consistent).float()
    # One exposure for the frame, by least squares.
    count = known.sum(dim=(1, 2, 3)).clamp(min=1)
    mean_one, mean_other = (
        ((known * plane).sum(dim=(1, 2, 3)) / count).view(-1, 1, 1, 1) for plane in (first, warped)
    )
    one, other = first - mean_one, warped - mean_other
    contrast = (known * one * other).sum(dim=(1, 2, 3)) / (known * other * other).sum(dim=(1, 2, 3)).clamp(min=1e-4)
    residual = box((one - contrast.clamp(0.05, 20).view(-1, 1, 1, 1) * other).square(), 5)
    spread = box(first.square(), 5) - box(first, 5).square()
    alike = box((residual <= _NOISE**2 + _SHARE * spread.clamp(min=0)).float(), _MAJORITY) > 0.5
    light = (mean_one + 1e-3) / (mean_other + 1e-3)
    return known * alike.float() if by_luma else known, light.flatten()


def warp(planes: torch.Tensor, motion: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """
    Look planes up along motion: `result(p) = planes(p + motion(p))`; beyond the border they go on as they end.

    Args:
        planes (`torch.Tensor` of shape `(batch_size, channels, height, width)`).
        motion (`torch.Tensor` of shape `(batch_size, 2, height, width)`): x and y in positions.
        mode (`str`, *optional*, defaults to `"bilinear"`): Or `"bicubic"`. In float64 no motion changes no bit of
            planes that were float32.
    """
    height, width = planes.shape[2:]
    sides = torch.tensor([width, height], device=motion.device, dtype=motion.dtype).view(1, 2, 1, 1)
    places = (2 * (_positions(height, width, motion) + motion) + 1) / sides - 1
    return F.grid_sample(planes, places.permute(0, 2, 3, 1), mode=mode, padding_mode="border", align_corners=False)


def box(planes: torch.Tensor, side: int) -> torch.Tensor:
    """Average planes `(batch_size, channels, height, width)` over windows of an odd side; at borders over what is
    there."""
    half = side // 2
    rows = F.avg_pool2d(planes, (1, side), stride=1, padding=(0, half), count_include_pad=False)
    return F.avg_pool2d(rows, (side, 1), stride=1, padding=(half, 0), count_include_pad=False)


def spread(values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """
    Fill the holes of planes smoothly from around them.

    Args:
        values (`torch.Tensor` of shape `(batch_size, channels, height, width)`).
        known (`torch.Tensor` of shape `(batch_size, 1, height, width)`): From 0, a hole, to 1.

    Returns:
        `torch.Tensor` of the shape of `values`: where `known` is 1, `values` bit for bit; 0 if nothing is known.
    """
    if known.min() == 1:
        return values
    if min(values.shape[2:]) == 1:
        total = known.sum(dim=(2, 3), keepdim=True)
        filled = (known * values).sum(dim=(2, 3), keepdim=True) / total.clamp(min=1e-6)
        return values + (1 - known.clamp(0, 1)) * (filled - values)
    weight = F.avg_pool2d(_even(known), 2)
    coarse = F.avg_pool2d(_even(known * values), 2) / weight.clamp(min=1e-6)
    filled = F.interpolate(spread(coarse, (4 * weight).clamp(max=1)), size=values.shape[2:], mode="bilinear")
    return values + (1 - known) * (filled - values)


def _smooth(planes: torch.Tensor) -> torch.Tensor:
    """Take the finest detail out, which interpolation between positions would not keep."""
    return F.avg_pool2d(F.avg_pool2d(F.pad(planes, (1, 1, 1, 1), mode="replicate"), 2, stride=1), 2, stride=1)


def _expose(planes: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Give planes the mean and the contrast of others."""
    deviation, wanted = (frame.std(dim=(2, 3), keepdim=True) for frame in (planes, like))
    mean, wanted_mean = (frame.mean(dim=(2, 3), keepdim=True) for frame in (planes, like))
    return (planes - mean) * (wanted / deviation.clamp(min=1e-6)).clamp(0.2, 5) + wanted_mean


def _even(planes: torch.Tensor) -> torch.Tensor:
    height, width = planes.shape[2:]
    return F.pad(planes, (0, width % 2, 0, height % 2), mode="replicate")


def _positions(height: int, width: int, like: torch.Tensor) -> torch.Tensor:
    y, x = torch.meshgrid(
        torch.arange(height, device=like.device, dtype=like.dtype),
        torch.arange(width, device=like.device, dtype=like.dtype),
        indexing="ij",
    )
    return torch.stack((x, y))[None]
