"""
A model repository for the Hub: staged as a folder, checked, and pushed in one commit.

The folder holds all that a stranger needs who has diffusers and not this package: weights, scheduler,
model_index.json, and `pipeline.py` with its siblings, word for word.
"""

import copy
import json
import logging
import math
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

from huggingface_hub import CommitInfo, CommitOperationAdd, EvalResult, HfApi, ModelCard, ModelCardData

from .model_folder import check_configs, check_weights, hub_refusals


if TYPE_CHECKING:
    from .pipeline import ColorizationPipeline


logger = logging.getLogger(__name__)

# pipeline.py and what it imports from beside itself: the Hub loader fetches these by name.
CODE_FILES = (
    "pipeline.py", "brush.py", "check_inputs.py", "color.py", "denoising.py", "doubt.py", "hint_propagation.py",
    "hint_regression.py", "hints.py", "image_encoder.py", "image_processor.py", "likeness.py", "model_bounds.py",
    "model_folder.py", "model_trial.py", "motion.py", "pipeline_output.py", "reference_matching.py", "scenes.py",
    "video.py",
)  # fmt: skip
_TAGS = ("colorization", "image-colorization", "diffusion")

# Unpickling runs whatever code the file names.
_PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")

_PLACEHOLDER = re.compile(r"\{\{.*?\}\}|@@\w+@@|\[More Information Needed\]|<!-- /?(?:figures|loading) -->")

_LOCAL_PATH = re.compile(r"[/~\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\]")


class Evaluation(TypedDict):
    """
    What train/evaluate.py tells about one data set. Further keys are published in the JSON file and not in the card.

    Args:
        dataset (`str`): Name of the photographs: a data set on the Hub, or a folder, of which the last part is shown.
        num_images (`int`), settings (`dict`): How many, and how the pipeline was called. Values of JSON.
        metrics (`dict` of `str` to `float`): Finite values by name, `"PSNR"` or `"PSNR (one sample)"`.
        baselines (`list` of `str`, optional): What among the latter is no result of the model: in the table only.
    """

    dataset: str
    num_images: int
    settings: dict
    metrics: dict[str, float]
    baselines: NotRequired[list[str]]


def stage_model_repository(
    pipeline_or_folder: "ColorizationPipeline | str | Path",
    staging_folder: str | Path,
    *,
    repo_id: str,
    card_template: str | Path,
    variant: str | None = None,
    evaluations: Sequence[Evaluation] = (),
    training_config: dict | None = None,
    samples: Sequence[str | Path] = (),
    datasets: Sequence[str] = (),
    tags: Sequence[str] = (),
    license: str | None = None,
) -> None:
    """
    Write everything that belongs into a model repository, and nothing else.

    Args:
        pipeline_or_folder (`ColorizationPipeline`, `str` or `Path`):
            The pipeline, which is not changed, or a folder it was saved to.
        staging_folder (`str` or `Path`), repo_id (`str`):
            An empty folder, or one to be made; and `"user/model"`, for the card.
        card_template (`str` or `Path`):
            A Markdown file. Its text becomes the card's; `<!-- figures --> ... <!-- /figures -->` in it is replaced by
            a table of the evaluations and the sample pictures, and `<!-- loading --> ... <!-- /loading -->`, if it is
            there, by the lines that load this model. Front matter of its own is kept where none is generated.
        variant (`str`, *optional*):
            `None` writes the weights as float32, `"fp16"` as float16 under that variant's file name.
        evaluations (list of [`Evaluation`], *optional*), samples (list of `str` or `Path`, *optional*):
            The figures, and pictures to show below them.
        training_config (`dict`, *optional*):
            The configuration of the training run. Of local paths in it only the last part is published.
        datasets (list of `str`, *optional*), tags (list of `str`, *optional*), license (`str`, *optional*):
            For the card's front matter, over what the template's own says.

    Raises:
        `ValueError`: if the folder is not a colorization pipeline in safetensors, weights are not finite in the type
        asked for, the staging folder is not empty, an evaluation lacks a key, or the card keeps a placeholder.
    """
    # Imported here, because pushing a staged folder needs neither torch nor diffusers.
    from .pipeline import ColorizationPipeline

    folder = Path(staging_folder)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"`staging_folder` must be empty, but {folder} is not. Name another, or empty it.")
    if variant not in (None, "fp16"):
        raise ValueError(f"`variant` must be None (float32) or 'fp16', but got {variant!r}.")
    evaluations = [_check_evaluation(_without_local_paths(evaluation)) for evaluation in evaluations]
    pictures = {f"samples/{number}{Path(file).suffix}": file for number, file in enumerate(samples, start=1)}
    text = _fill_template(
        Path(card_template).read_text(encoding="utf-8"),
        figures="\n\n".join([_figures(evaluations), *(f"![Sample]({path})" for path in pictures)]),
        loading=f"```python\n{loading_lines(repo_id, variant=variant)}\n```",
    )
    card = _add_front_matter(text, repo_id.split("/")[-1], evaluations, list(datasets), list(tags), license)
    if isinstance(pipeline_or_folder, (str, Path)):
        _check_folder(Path(pipeline_or_folder))
        pipeline_or_folder = ColorizationPipeline.from_pretrained(pipeline_or_folder)
    if not isinstance(pipeline_or_folder, ColorizationPipeline):
        name = type(pipeline_or_folder).__name__
        raise ValueError(
            f"`pipeline_or_folder` must be a `ColorizationPipeline` or a folder with one, but got {name}."
        )

    folder.mkdir(parents=True, exist_ok=True)
    _write_pipeline(pipeline_or_folder, folder, variant)
    for name in CODE_FILES:
        shutil.copyfile(Path(__file__).parent / name, folder / name)
    for path, file in pictures.items():
        (folder / path).parent.mkdir(exist_ok=True)
        shutil.copyfile(file, folder / path)
    for name, values in (("training_config", _without_local_paths(training_config)), ("evaluation", evaluations)):
        if values:
            (folder / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    card.save(folder / "README.md")


def push_to_hub(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    branch: str | None = None,
    commit_message: str = "Upload colorization pipeline",
    tag: str | None = None,
    overwrite_card: bool = False,
    token: str | None = None,
) -> CommitInfo:
    """
    Upload a staged folder in one commit. Given again, it goes on where it was interrupted, and does not commit twice.

    Args:
        folder (`str` or `Path`): As [`stage_model_repository`] left it. Files of the repository that are not in the
            folder stay.
        repo_id (`str`): `"user/model"`; made if it does not exist.
        private (`bool`, *optional*): Who may see the repository; `None` leaves that to the account, or as it is.
        branch (`str`, *optional*): Branch to commit to, made from main if it does not exist. `None` is main.
        commit_message (`str`, *optional*): First line of the commit.
        tag (`str`, *optional*): Name for this state of the repository.
        overwrite_card (`bool`, *optional*, defaults to `False`): Replace a card that is there, perhaps edited by hand.
        token (`str`, *optional*): Defaults to the one of `hf auth login` or `HF_TOKEN`.

    Returns:
        `huggingface_hub.CommitInfo`: The new commit, or the last one if the repository held all this already.

    Raises:
        `ValueError`: if the folder is not a colorization pipeline in safetensors, the repository exists and is not as
        `private` asks, or `tag` names another state.
        `OSError`: in one line, if the Hub refuses, as with 412 after a commit by somebody else.
    """
    folder = Path(folder)
    _check_folder(folder)
    api = HfApi(token=token)
    with hub_refusals(repo_id):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if branch is not None:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        head = api.model_info(repo_id, revision=branch)
        if private is not None and head.private != private:
            raise ValueError(
                f"`private` is {private}, but {repo_id} exists and is {'private' if head.private else 'public'}."
                " Nothing was uploaded. Change the repository's settings on the Hub, or leave `private` out."
            )
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        if not overwrite_card and any(sibling.rfilename == "README.md" for sibling in head.siblings):
            logger.warning("The card of %s is kept as it is on the Hub; `overwrite_card` replaces it.", repo_id)
            paths = [path for path in paths if path != folder / "README.md"]
        # Not `upload_folder`: that one may split what it uploads into several commits.
        commit = api.create_commit(
            repo_id,
            [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in paths],
            commit_message=commit_message,
            revision=branch,
            parent_commit=head.sha,
        )
        if tag is not None:
            api.create_tag(repo_id, tag=tag, revision=commit.oid, exist_ok=True)
            targets = {ref.name: ref.target_commit for ref in api.list_repo_refs(repo_id).tags}
            if targets[tag] != commit.oid:
                raise ValueError(
                    f"`tag` {tag!r} names commit {targets[tag]} of {repo_id} already, and tags stay where they are."
                    f" The upload is commit {commit.oid}; tag it with another name."
                )
        return commit


def loading_lines(repo_id: str, *, variant: str | None = None, revision: str | None = None) -> str:
    """Give the two lines that load a model, with this package and without; a `revision` pins the code as well."""
    weights = (f', variant="{variant}"' if variant else "") + (f', revision="{revision}"' if revision else "")
    code = f', custom_pipeline="{repo_id}"' + (f', custom_revision="{revision}"' if revision else "")
    return (
        f'pipe = ColorizationPipeline.from_pretrained("{repo_id}"{weights})\n'
        f'pipe = DiffusionPipeline.from_pretrained("{repo_id}"{weights}{code}, trust_remote_code=True)'
    )


def _check_folder(folder: Path) -> None:
    """Refuse what would not load as a colorization pipeline, or not safely. Reads no weights."""
    configs = check_configs(folder)
    pickles = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in _PICKLE_SUFFIXES)
    if pickles:
        raise ValueError(
            f"`folder` {folder} holds pickled files, which run code when they are read: {', '.join(pickles[:3])}. Save"
            " the pipeline again with `pipeline.save_pretrained(folder)`, which writes safetensors, into a new folder."
        )
    check_weights(configs)


def _write_pipeline(pipeline: "ColorizationPipeline", folder: Path, variant: str | None) -> None:
    import torch
    from diffusers.utils.torch_utils import is_compiled_module

    from .model_trial import check_finite

    networks = {}
    for name, network in pipeline.components.items():
        if isinstance(network, torch.nn.Module):  # copied: the caller's keeps its dtype
            network = copy.deepcopy(network._orig_mod if is_compiled_module(network) else network)
            networks[name] = network.half() if variant == "fp16" else network
    check_finite(networks)
    settings = {name: value for name, value in pipeline.config.items() if not name.startswith("_")}
    type(pipeline)(**{**settings, **pipeline.components, **networks}).save_pretrained(folder, variant=variant)
    remove_loading_paths(folder)


def remove_loading_paths(folder: str | Path) -> None:
    """Take the paths that its parts were loaded from out of a saved pipeline: they name folders of this machine."""
    for file in [Path(folder) / "model_index.json", *Path(folder).glob("*/config.json")]:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values.pop("_name_or_path", None) is not None:
            file.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def _check_evaluation(evaluation: dict) -> Evaluation:
    missing = sorted(Evaluation.__required_keys__ - evaluation.keys())
    if missing or not evaluation["metrics"]:
        raise ValueError(f"`evaluations` must each hold {' and '.join(missing or ['metrics'])}, but got {evaluation}.")
    for name, value in evaluation["metrics"].items():
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise ValueError(f"`evaluations` must hold finite numbers as metrics, but {name} is {value!r}.")
    return evaluation


def _figures(evaluations: Sequence[Evaluation]) -> str:
    """Lay out evaluations as tables: metrics across, what they were measured on down."""
    if not evaluations:
        return "This checkpoint has not been measured."
    lines = []
    for evaluation in evaluations:
        settings = ", ".join(f"{name} {value}" for name, value in evaluation["settings"].items())
        cells = {_split(name): f"{value:.4g}" for name, value in evaluation["metrics"].items()}
        columns, rows = (list(dict.fromkeys(heads)) for heads in zip(*cells, strict=True))
        table = [["", *(column.replace("|", r"\|") for column in columns)], ["---"] * (len(columns) + 1)]
        table += [[row, *(cells.get((column, row), "") for column in columns)] for row in rows]
        lines += [f"**{evaluation['dataset']}**, {evaluation['num_images']} photos ({settings})", ""]
        lines += [f"| {' | '.join(row)} |" for row in table] + [""]
    return "\n".join(lines).rstrip()


def _split(metric: str) -> tuple[str, str]:
    """Part `"PSNR (one sample)"` into metric and row."""
    name, opened, measured_on = metric.removesuffix(")").rpartition(" (")
    return (name, measured_on) if opened else (metric, "")


def _fill_template(text: str, **contents: str) -> str:
    """Replace the marked places; that of the figures must be there."""
    for name, content in contents.items():
        before, opened, rest = text.partition(f"<!-- {name} -->")
        _, closed, after = rest.partition(f"<!-- /{name} -->")
        if opened and closed:
            text = before + content + after
        elif name == "figures":
            raise ValueError("`card_template` must mark a place with <!-- figures --> and <!-- /figures -->.")
    if left := _PLACEHOLDER.search(text):
        raise ValueError(f"`card_template` leaves a placeholder in the card: {left[0]}. Fill it in, or remove it.")
    return text


def _add_front_matter(
    text: str,
    model_name: str,
    evaluations: list[Evaluation],
    datasets: list[str],
    tags: list[str],
    license: str | None,
) -> ModelCard:
    card = ModelCard(text if text.startswith("---") else f"---\n\n---\n{text}")
    results = [
        EvalResult(
            task_type="image-to-image",
            dataset_type=evaluation["dataset"],
            dataset_name=evaluation["dataset"],
            dataset_args={"num_images": evaluation["num_images"]},
            metric_type=_split(name)[0],
            metric_name=name,
            metric_value=value,
            metric_args=evaluation["settings"],
        )
        for evaluation in evaluations
        for name, value in evaluation["metrics"].items()
        if _split(name)[1] not in evaluation.get("baselines", ())
    ]
    generated = {
        "license": license,
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": [*_TAGS, *tags, *(card.data.tags or [])],
        "datasets": datasets,
        "metrics": list(dict.fromkeys(result.metric_type for result in results)),
        "model_name": model_name,
        "eval_results": results,
    }
    card.data = ModelCardData(**card.data.to_dict() | {name: value for name, value in generated.items() if value})
    return card


def _without_local_paths(value):
    """Keep of each string that names a place on this machine only the last part."""
    if isinstance(value, dict):
        return {name: _without_local_paths(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_local_paths(entry) for entry in value]
    if isinstance(value, str) and _LOCAL_PATH.match(value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value
