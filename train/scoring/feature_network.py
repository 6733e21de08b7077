"""
Features of photos for the Fréchet distance: of EfficientNet-Lite2 as ImageNet trained it, or of a network in a file.

The usual one is the InceptionV3 of 2015, for instance `inception-2015-12-05.pt` of StyleGAN2-ADA: FID. Distances in
the features of another network are another metric, so every table names the network.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from optimization.pretrained_encoder import load_pretrained_encoder

from colorize_pipeline.metrics import frechet_distance


def load_feature_network(source: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """
    Load a network that turns photos into features.

    Args:
        source (`str`): A TorchScript file, or `user/repository/file` on the Hub. Its `forward` takes `uint8` RGB of
            shape `(N, 3, height, width)` and returns `(N, D)`; an argument `return_features` is set if it has one.

    Raises:
        `ValueError`: if the file does not exist or is not TorchScript.
    """
    path = Path(source)
    if not path.exists():
        if source.startswith((".", "/", "~")) or source.count("/") < 2:
            raise ValueError(f"`features` must be a TorchScript file or user/repository/file, but got {source!r}.")
        user, repository, file = source.split("/", 2)
        path = Path(hf_hub_download(f"{user}/{repository}", file))
    try:
        with warnings.catch_warnings():
            # TorchScript is deprecated, but it is the form in which the reference network is handed on.
            warnings.simplefilter("ignore", DeprecationWarning)
            network = torch.jit.load(path, map_location="cpu").eval()
    except RuntimeError as error:
        raise ValueError(f"`features` {source} is not a TorchScript file: {str(error).splitlines()[0]}") from error
    arguments = {argument.name for argument in network.forward.schema.arguments}
    flags = {"return_features": True} if "return_features" in arguments else {}
    return lambda photos: network(photos, **flags)


def load_lite2_features() -> Callable[[torch.Tensor], torch.Tensor]:
    """Give the pooled features of EfficientNet-Lite2: photos as of [`load_feature_network`] to `(N, 1280)`."""
    network = load_pretrained_encoder("lite2")
    return lambda photos: network(photos.float() / 127.5 - 1).last_hidden_state.mean(dim=(2, 3))


@torch.no_grad()
def extract_features(
    network: Callable[[torch.Tensor], torch.Tensor], photos: torch.Tensor, batch_size: int = 16
) -> torch.Tensor:
    """Run `uint8` RGB photos `(N, 3, height, width)` through the network: `(N, D)`."""
    return torch.cat([network(batch).float().flatten(start_dim=1) for batch in photos.split(batch_size)])


def disjoint_distance(painted: torch.Tensor, real: torch.Tensor) -> float:
    """
    Compare each half of the painted photos with the other half of the real ones, and average.

    For the real photos themselves this is the floor, above 0, that the number of photos sets.
    """
    return (frechet_distance(painted[0::2], real[1::2]) + frechet_distance(painted[1::2], real[0::2])) / 2
