"""
A model folder is foreign input: it is found or fetched, and its files are checked before anything is built from them.

What a configuration says decides how much memory its network takes, and whether it can be built at all. The headers of
the weights are read here, never the weights. Nothing here needs torch or diffusers.
"""

import json
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open

from .model_bounds import COMPONENTS, MODEL_INDEX, REMEDY, check_values, count_features


INDEX_FILE = "model_index.json"
CONFIG_FILES = {
    "unet": "unet/config.json",
    "scheduler": "scheduler/scheduler_config.json",
    "image_encoder": "image_encoder/config.json",
}

# What their libraries call the weights.
_WEIGHTS = {"unet": "diffusion_pytorch_model", "image_encoder": "model"}

# Such a file beside the configuration sends the loader to further files, whose names it takes from there.
_REDIRECTIONS = ("*.index*.json", "adapter_config.json")

# Far more than is of use: 1,000 names of classes take 40 kB in a configuration, 10,000 tensors 1.5 MB in a header.
_MAX_CONFIG_BYTES = 2**20
_MAX_HEADER_BYTES = 2**23

# The class that HfHubHTTPError is made from is of the HTTP client, as are the errors of a connection.
_HTTP_ERRORS = tuple(base for base in HfHubHTTPError.__bases__ if base is not OSError)

_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*")


@dataclass(frozen=True)
class ModelConfigs:
    """
    The checked configurations of a model folder.

    Args:
        folder (`Path`): Where they are.
        index (`dict`): What model_index.json says.
        components (`dict` of `dict`): The configuration of each component that is loaded from the folder.
    """

    folder: Path
    index: dict
    components: dict[str, dict]


def is_model_folder(model: str | Path) -> bool:
    """
    Tell a folder (`True`) from a name on the Hub (`False`).

    Raises:
        `ValueError`: if it is neither.
    """
    if Path(model).is_dir():
        return True
    if Path(model).exists() or not _HUB_NAME.fullmatch(str(model)):
        what = "is no folder" if Path(model).exists() else "is no folder that there is"
        raise ValueError(
            f"The model {str(model)!r} {what}, nor a name on the Hub, which has the form user/model. Name a folder"
            " that a pipeline was saved to, such as runs/small/pipeline."
        )
    return False


def fetch_model(pipeline_class: type, model: str | Path, arguments: Mapping[str, object]) -> ModelConfigs:
    """
    Find a model folder, or fetch one from the Hub: the configurations first, and weights only if these are in bounds.

    Args:
        pipeline_class (`type`): A class of diffusers pipelines.
        model (`str` or `Path`): A folder, or `"user/model"`.
        arguments (`dict`): Those of `from_pretrained`.

    Returns:
        [`ModelConfigs`]: What is said in the folder, or in the one of this commit in the cache.

    Raises:
        `ValueError`: if `model` is neither, or a configuration is out of bounds.
        `OSError`: in one line, if the Hub refuses or cannot be reached.
    """
    class_names = tuple(ancestor.__name__ for ancestor in pipeline_class.__mro__)
    if is_model_folder(model):
        return check_configs(model, passed=arguments, class_names=class_names)
    names = ("revision", "cache_dir", "force_download", "token", "local_files_only")
    options = {name: arguments[name] for name in names if arguments.get(name) is not None}
    with hub_refusals(str(model)):
        folder = Path(snapshot_download(str(model), allow_patterns=[INDEX_FILE, *CONFIG_FILES.values()], **options))
    configs = check_configs(folder, passed=arguments, class_names=class_names)
    with hub_refusals(str(model)):
        folder = pipeline_class.download(str(model), **{**arguments, "revision": folder.name})  # what was checked
    return replace(configs, folder=Path(folder))


@contextmanager
def hub_refusals(repo_id: str) -> Iterator[None]:
    """
    Say in one line what the Hub, or the way there, refuses in a `with` block.

    Raises:
        `OSError`: made from the error of huggingface_hub, which is its cause.
    """
    try:
        yield
    except (OSError, *_HTTP_ERRORS) as error:
        raise OSError(_refusal(error, repo_id)) from error


def check_configs(
    folder: str | Path,
    *,
    passed: Mapping[str, object] | None = None,
    class_names: tuple[str, ...] = ("ColorizationPipeline",),
) -> ModelConfigs:
    """
    Check what the configurations of a model say, against bounds and against each other. Reads no weights.

    Args:
        folder (`str` or `Path`):
            The folder.
        passed (`dict`, *optional*):
            Arguments of the pipeline by name, which take the place of what the folder says. A component among them is
            not looked for in the folder.
        class_names (`tuple` of `str`, *optional*):
            What the pipeline may be.

    Returns:
        [`ModelConfigs`]

    Raises:
        `ValueError`: in one line, if a file is missing or unreadable, a value is out of its bounds, the pipeline is of
        another class, or the channels of the U-Net fit no target.
    """
    folder, passed = Path(folder), passed or {}
    index = _read_config(folder, INDEX_FILE)
    name = index.get("_class_name")
    if name not in class_names:
        check_values({"_class_name": name}, MODEL_INDEX, str(folder / INDEX_FILE))
        raise ValueError(
            f"`folder` {folder} must hold a {class_names[0]!r}, but its _class_name is {name!r}. Load it with"
            " `diffusers.DiffusionPipeline`."
        )
    check_values({name: value for name, value in index.items() if name in MODEL_INDEX}, MODEL_INDEX, INDEX_FILE)
    if strangers := sorted(index.keys() - MODEL_INDEX.keys()):
        raise ValueError(
            f"{INDEX_FILE}: {strangers[0][:60]!r} is nothing that this version knows. Update colorize-pipeline, or"
            " take another model."
        )
    components = {}
    for component, file in CONFIG_FILES.items():
        if component in passed or (component == "image_encoder" and not index.get(component, [None])[0]):
            continue
        if component not in index:
            raise ValueError(f"{INDEX_FILE}: {component!r} is missing. {REMEDY}")
        components[component] = _read_config(folder, file)
        check_values(components[component], COMPONENTS[component], file)
    configs = ModelConfigs(folder, index, components)
    if "unet" not in passed and "image_encoder" not in passed:
        _check_channels(configs, passed.get("luminance_patch", index.get("luminance_patch", 4)))
    return configs


def check_weights(configs: ModelConfigs, variant: str | None = None) -> dict[str, dict[str, tuple]]:
    """
    Check that the weights are safetensors, whole and alone.

    Args:
        configs ([`ModelConfigs`]): The configurations of their folder.
        variant (`str`, *optional*): The variant to load, of components that have it.

    Returns:
        `dict` of `dict`: Of each component with weights the type and the shape of each tensor, as its file's header
        has them: `("F16", 8, 4, 3, 3)`.

    Raises:
        `ValueError`: in one line.
    """
    tensors = {}
    for component, stem in _WEIGHTS.items():
        if component not in configs.components:
            continue
        place = configs.folder / component
        for pattern in _REDIRECTIONS:
            for file in place.glob(pattern):
                raise ValueError(f"{component}/{file.name} may not be there: weights are one whole file. {REMEDY}")
        names = [f"{stem}.safetensors"]
        if variant is not None:
            names.insert(0, f"{stem}.{variant}.safetensors")
        elif not (place / names[0]).exists():  # a folder that holds nothing but a variant can be pushed
            names += sorted(file.name for file in place.glob(f"{stem}.*.safetensors"))
        present = [name for name in names if (place / name).exists() or (place / name).is_symlink()]
        if not present:
            raise ValueError(
                f"`folder` {configs.folder} holds no safetensors file {names[0]} in {component}/. Pickled weights,"
                " which run code when they are read, are not loaded: save the whole pipeline with `save_pretrained`."
            )
        tensors[component] = _read_header(configs.folder, f"{component}/{present[0]}")
    return tensors


def _refusal(error: Exception, repo_id: str) -> str:
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        return f"{repo_id} is gated: ask for access on its page on the Hub, and {_LOG_IN}."
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"The Hub shows you no model {repo_id} ({status}), and there is no folder of that name. Check the name; if"
            f" it is private, {_LOG_IN}."
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repo_id} has no such revision on the Hub ({status}). Name a branch, a tag or a commit of it."
    if isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        return (
            f"There is no folder {repo_id}, and that model is not in the cache, and the Hub is out of reach or was not"
            " to be asked. Go online once to fetch it, or name a folder."
        )
    if status == 401:
        return f"The Hub does not know you (401): {_LOG_IN}."
    if status == 403:
        return f"Your token has no right to do this to {repo_id} (403): {_LOG_IN}, with a token that may write there."
    if status in (409, 412):
        return f"{repo_id} was changed meanwhile ({status}), and nothing was overwritten. Give the same command again."
    if status is not None:
        return f"The Hub answered {status}: {' '.join(str(error.server_message or error).split())[:200]}"
    if isinstance(error, _HTTP_ERRORS):
        return (
            f"The Hub is out of reach: {' '.join(str(error).split())[:200] or type(error).__name__}. Try again later."
        )
    return " ".join(str(error).split())[:300]


def _check_channels(configs: ModelConfigs, luminance_patch: int) -> None:
    network = configs.components["unet"]
    inputs, outputs = network.get("in_channels", 3), network.get("out_channels", 3)
    encoder = configs.components.get("image_encoder")
    features = count_features(encoder.get("strides", []), encoder.get("out_channels", [])) if encoder else 0
    if outputs not in (2, 3) or inputs - outputs - luminance_patch**2 - features not in (0, 3):
        told = f", plus {features} for the image encoder" if features else ""
        raise ValueError(
            f"`folder` {configs.folder} must hold a U-Net with 2 outputs (chroma) or 3 (RGB), and as many inputs plus"
            f" {luminance_patch**2} for luminance{told}, plus 3 if it takes hints; but it has {inputs} inputs and"
            f" {outputs} outputs."
        )


def _open_size(folder: Path, name: str) -> int:
    """Give the size of a file, and refuse what is no file: a device or a pipe has no end."""
    try:
        status = (folder / name).stat()
    except FileNotFoundError as error:
        raise ValueError(f"`folder` {folder} holds no {name}. Name one such as runs/small/pipeline.") from error
    except OSError as error:
        raise ValueError(f"{folder / name} cannot be read: {error.strerror}. {REMEDY}") from error
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{folder / name} must be a file, but is a folder, a device or a pipe. {REMEDY}")
    return status.st_size


def _read_config(folder: Path, name: str) -> dict:
    if (size := _open_size(folder, name)) > _MAX_CONFIG_BYTES:
        raise ValueError(f"{name} must be of at most {_MAX_CONFIG_BYTES} bytes, but is of {size}. {REMEDY}")
    try:
        values = json.loads((folder / name).read_bytes().decode("utf-8"), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise ValueError(f"{folder / name} cannot be read: {error.strerror}. {REMEDY}") from error
    except (ValueError, RecursionError) as error:  # the latter: nested without end
        raise ValueError(f"{name} is no JSON in UTF-8: {error}. {REMEDY}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{name} must hold a JSON object, but holds a {type(values).__name__}. {REMEDY}")
    return values


def _without_repeats(pairs: list[tuple[str, object]]) -> dict:
    values = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"{name[:60]!r} is there twice")
        values[name] = value
    return values


def _read_header(folder: Path, name: str) -> dict[str, tuple]:
    """Source of the format: https://huggingface.co/docs/safetensors, 8 bytes of length and then JSON."""
    size = _open_size(folder, name)
    try:
        with (folder / name).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(_MAX_HEADER_BYTES, size - 8):
            raise ValueError(
                f"{name} is no whole safetensors file: its header should take {length} bytes, and the file has {size}."
                f" {REMEDY}"
            )
        with safe_open(folder / name, framework="np") as file:
            slices = {tensor: file.get_slice(tensor) for tensor in file.keys()}  # noqa: SIM118 (it is no dict)
            return {tensor: (part.get_dtype(), *part.get_shape()) for tensor, part in slices.items()}
    except OSError as error:
        raise ValueError(f"{folder / name} cannot be read: {error.strerror}. {REMEDY}") from error
    except SafetensorError as error:
        raise ValueError(
            f"{name} is no whole safetensors file: {' '.join(str(error).split())[:200]}. {REMEDY}"
        ) from error
