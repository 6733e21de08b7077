"""Tiny real components: the same classes as in the wheel, small enough for a CPU."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from loopback_hub import LoopbackHub
from PIL import Image, ImageCms
from transformers import EfficientNetConfig, EfficientNetModel

from colorize_pipeline import ColorizationPipeline, create_unet
from colorize_pipeline.hub import stage_model_repository


# Each worker of pytest-xdist, with all that it starts, keeps to one core: threads that wait for a core that another
# worker has taken cost seconds.
if (_worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker.removeprefix("gw")) % len(_cores)]})
    torch.set_num_threads(1)

SHARED = Path(__file__).parents[2] / "shared"
ROOT = Path(__file__).parents[1]

# What a photo may say of itself: an XMP packet of a camera held sideways, the same upright, and a profile.
TURNED_XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<r:Description r:about="uuid:7" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    b'<r:Description r:about="uuid:7" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="caf\xc3\xa9"/>'
    b"</r:RDF></x:xmpmeta>"
)
UPRIGHT_XMP = TURNED_XMP.replace(b'tiff:Orientation="6"', b"")
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

# A run that is pushed to the Hub: its name, the template of its card, and its figures.
REPO = "ann/painter"
TEMPLATE = """# A painter

Made from `{photos}` & patience.

<!-- loading -->
how to load it
<!-- /loading -->

## Figures

<!-- figures -->
none yet
<!-- /figures -->

## Limits
"""
EVALUATIONS = [
    {
        "dataset": "../photos/kodak",
        "num_images": 24,
        "settings": {"size": 256, "num_inference_steps": 8, "photos": "/data/kodak"},
        "metrics": {"PSNR (one sample)": 21.123456789012345, "dE00 (one sample)": 11.5, "PSNR (1-step mean)": 3e-07},
        "seconds_per_sample": 0.25,
    },
    {"dataset": "user/slides", "num_images": 50, "settings": {}, "metrics": {"mean of |dCF|": 8}},
]


def make_encoder() -> EfficientNetModel:
    """An image encoder of the class and the strides of the real ones, with 24 features."""
    torch.manual_seed(0)
    config = EfficientNetConfig(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        in_channels=[32, 8, 8, 8, 8, 8, 16],
        out_channels=[8, 8, 8, 8, 8, 16, 16],
        num_block_repeats=[1] * 7,
        expand_ratios=[1] * 7,
        hidden_dim=1280,
    )
    encoder = EfficientNetModel(config).eval()
    for module in encoder.modules():  # so that what it sees reaches its last features
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.BatchNorm2d):
            module.reset_parameters()
    return encoder


def make_pipeline(target: str = "chroma", with_encoder: bool = False) -> ColorizationPipeline:
    """A pipeline with an untrained network, whose wild colors are the hardest case for the gamut."""
    torch.manual_seed(0)
    patch = 4 if target == "chroma" else 1
    network = {"target": target, "luminance_patch": patch, "with_hints": target == "chroma"}
    pipeline = ColorizationPipeline(
        unet=create_unet("tiny", num_features=24 if with_encoder else 0, **network).eval(),
        image_encoder=make_encoder() if with_encoder else None,
        encoder_resolution=64,
        scheduler=DDPMScheduler(
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample_range=3.57 if target == "chroma" else 1.0,
        ),
        luminance_patch=patch,
        default_num_inference_steps=2,
        default_processing_resolution=32,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_scheduler(beta_schedule, zero_snr, num_timesteps, prediction_type="v_prediction", **kwargs) -> DDPMScheduler:
    """A real scheduler that computes in float64."""
    scheduler = DDPMScheduler(
        num_timesteps,
        beta_schedule=beta_schedule,
        rescale_betas_zero_snr=zero_snr,
        prediction_type=prediction_type,
        clip_sample=False,
        **kwargs,
    )
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    return scheduler


@pytest.fixture
def pipeline() -> ColorizationPipeline:
    return make_pipeline()


@pytest.fixture
def checkpoint(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture(scope="module")
def hub():
    with LoopbackHub({"ann-token": "ann", "bob-token": "bob"}) as hub:
        yield hub


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """What training and evaluation leave: a pipeline, its configuration, figures, and a picture."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    make_pipeline().save_pretrained(folder / "pipeline")
    config = {
        "output_dir": str(folder),
        "dataset": "../shared/photos",
        "learning_rate": 5e-4,
        "resolutions": [64, 128],
    }
    (folder / "training_config.json").write_text(json.dumps(config))
    for number, evaluation in enumerate(EVALUATIONS):
        (folder / f"results-{number}.json").write_text(json.dumps(evaluation))
    Image.new("RGB", (8, 6), "teal").save(folder / "my sample.png")
    (folder / "card.md").write_text(TEMPLATE)
    return folder


@pytest.fixture(scope="module")
def staged(run_folder, tmp_path_factory):
    """The same, staged in this process from the folder, as the command does it."""
    folder = tmp_path_factory.mktemp("staged") / "repository"
    stage_model_repository(
        run_folder / "pipeline",
        folder,
        repo_id=REPO,
        card_template=run_folder / "card.md",
        evaluations=EVALUATIONS,
        training_config=json.loads((run_folder / "training_config.json").read_text()),
        samples=[run_folder / "my sample.png"],
        license="mit",
    )
    return folder


@pytest.fixture
def photo() -> Image.Image:
    """A gray photograph of 60 x 90 pixels, with black and white in it."""
    from skimage.data import camera

    return Image.fromarray(camera()[100:280:3, 80:350:3].astype(np.uint8))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def album(tmp_path, photo):
    folder = tmp_path / "album"
    (folder / "1936").mkdir(parents=True)
    pixels = np.asarray(photo)
    for number in range(3):
        Image.fromarray(np.roll(pixels, 7 * number, axis=1)).save(folder / f"{number}.jpg")
        Image.fromarray(np.roll(pixels, 9 * number, axis=0)).save(folder / "1936" / f"old {number}.png")
    return folder


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A tiny model in a folder, with enough steps to be stopped among them."""
    folder = tmp_path_factory.mktemp("model")
    pipeline = make_pipeline()
    pipeline.register_to_config(default_num_inference_steps=12)
    pipeline.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def jpeg():
    """A photo that says something of itself."""
    from skimage.data import camera

    stream = io.BytesIO()
    pixels = Image.fromarray(camera()[100:280:3, 80:350:3].astype(np.uint8))
    pixels.save(stream, "JPEG", quality=95, icc_profile=SRGB, xmp=TURNED_XMP, dpi=(600, 600))
    return stream.getvalue()
