"""
Count the pixels whose gray is not kept, on random images of all modes and many sizes, with the default checkpoint:

    python tests/benchmarks/exact_gray.py

Also joins a photo of 100 megapixels, and prints the peak of memory.
"""

import resource

import numpy as np
import torch
from PIL import Image

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.color import join, rgb_to_luma


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"]
FIXED_SIZES = [(1, 1), (1, 999), (997, 3), (4000, 3000)]
IMAGES = 66


def main() -> None:
    pipeline = ColorizationPipeline.from_pretrained(DEFAULT_CHECKPOINT)
    pipeline.set_progress_bar_config(disable=True)
    rng = np.random.default_rng(0)
    pixels_seen = mismatches = 0
    for number in range(IMAGES):
        size = (
            FIXED_SIZES[number] if number < len(FIXED_SIZES) else tuple(int(side) for side in rng.integers(1, 700, 2))
        )
        mode = MODES[number % len(MODES)]
        codes = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        image = Image.fromarray(codes).convert("RGBA" if mode == "LA" else mode).convert(mode)
        for saturation in (0, 1, 2):
            output = pipeline(
                image, saturation=saturation, num_inference_steps=2, generator=torch.Generator().manual_seed(number)
            ).images[0]
            mismatches += int((np.asarray(output.convert("L")) != np.asarray(image.convert("L"))).sum())
            pixels_seen += output.width * output.height
    print(f"8 bit: {IMAGES} images, {pixels_seen} pixels, {mismatches} whose gray changed")

    codes = rng.integers(0, 65536, (613, 801), dtype=np.uint16)
    output = pipeline(Image.fromarray(codes), output_type="np", generator=torch.Generator().manual_seed(0)).images[0]
    luma = rgb_to_luma(torch.from_numpy(np.rint(output * 65535).astype(np.uint16))).numpy()
    print(f"16 bit: largest change of a gray code {np.abs(luma.astype(int) - codes.astype(int)).max()}")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    luma = torch.from_numpy(rng.integers(0, 256, (10_000, 10_000), dtype=np.uint8))
    join(luma, torch.randn(2, 48, 48))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"100 megapixels joined; peak memory of the process {peak / 1e6:.2f} GB ({before / 1e6:.2f} GB before)")


if __name__ == "__main__":
    main()
