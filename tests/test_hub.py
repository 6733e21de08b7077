"""The Hub module and its commands, with the real clients against a server on the loopback interface."""

import json
import re
import shutil
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import EVALUATIONS, REPO, ROOT, TEMPLATE, make_pipeline
from diffusers import DDPMPipeline
from hub_client import DIGEST, contents, run, run_script
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from colorize_pipeline import ColorizationPipeline, create_unet
from colorize_pipeline.hub import CODE_FILES, loading_lines, push_to_hub, stage_model_repository


@pytest.fixture(scope="module")
def pushed(hub, run_folder, tmp_path_factory):
    """The output of the command line that pushed the run."""
    evaluations = [run_folder / f"results-{number}.json" for number in range(len(EVALUATIONS))]
    command = [ROOT / "train" / "push_to_hub.py", run_folder / "pipeline", REPO, "--tag", "v1"]
    command += ["--card-template", run_folder / "card.md", "--samples", run_folder / "my sample.png"]
    command += ["--license", "mit"]
    return run(hub, [*command, "--evaluation", *evaluations], tmp_path_factory.mktemp("push"), token="ann-token")


@pytest.fixture(scope="module")
def expected(run_folder):
    """The digests before the push."""
    names, threads = {}, torch.get_num_threads()
    exec(DIGEST, names)
    torch.set_num_threads(1)  # as in the clients
    try:
        return names["digest"](ColorizationPipeline.from_pretrained(run_folder / "pipeline"))
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def visitor(hub, pushed, tmp_path_factory):
    """A folder with the cache of somebody who loaded the model once, and what they saw."""
    home = tmp_path_factory.mktemp("visitor")
    script = f"""
from colorize_pipeline import ColorizationPipeline
from huggingface_hub import snapshot_download
folder = snapshot_download("{REPO}", local_dir="copy")
print(json.dumps({{
    "by name": digest(ColorizationPipeline.from_pretrained("{REPO}")),
    "by tag": digest(ColorizationPipeline.from_pretrained("{REPO}", revision="v1")),
    "from a folder": digest(ColorizationPipeline.from_pretrained(folder)),
}}))"""
    return home, run_script(hub, script, home)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """The Python of a virtual environment that has everything this one has, except colorize_pipeline."""
    folder = tmp_path_factory.mktemp("stranger") / "venv"
    venv.create(folder, with_pip=False)
    site_packages = next(folder.glob("[Ll]ib/**/site-packages"))
    for source in {Path(find_spec(name).origin).parents[1] for name in ("torch", "diffusers", "numpy", "PIL")}:
        for entry in source.iterdir():
            if (
                "colorize_pipeline" not in entry.name
                and entry.suffix != ".pth"
                and not (site_packages / entry.name).exists()
            ):
                (site_packages / entry.name).symlink_to(entry)
    return folder / "bin" / "python"


# Loading


def test_a_pushed_model_gives_the_same_weights_and_pixels_in_a_new_process_with_an_empty_cache(visitor, expected):
    _, seen = visitor

    assert seen == {"by name": expected, "by tag": expected, "from a folder": expected}


def test_a_model_loaded_once_loads_again_without_a_network(hub, visitor, expected):
    home, _ = visitor
    script = f"""
from colorize_pipeline import ColorizationPipeline
print(json.dumps(digest(ColorizationPipeline.from_pretrained("{REPO}"))))"""
    asked_before = len(hub.requests)

    loaded = run_script(hub, script, home, HF_ENDPOINT="http://127.0.0.1:9")

    assert loaded == expected
    assert len(hub.requests) == asked_before


def test_the_remote_code_line_needs_no_package_and_a_word_of_trust(hub, pushed, stranger, expected, tmp_path):
    script = f"""
import importlib.util
from diffusers import DiffusionPipeline
line = dict(custom_pipeline="{REPO}")
pipeline = DiffusionPipeline.from_pretrained("{REPO}", **line, trust_remote_code=True)
pinned = DiffusionPipeline.from_pretrained(
    "{REPO}", **line, trust_remote_code=True, revision="v1", custom_revision="v1"
)
print(json.dumps({{
    "has the package": importlib.util.find_spec("colorize_pipeline") is not None,
    "module": type(pipeline).__module__.split(".")[0],
    "digest": digest(pipeline),
    "pinned": digest(pinned),
    "without trust": refused(lambda: DiffusionPipeline.from_pretrained("{REPO}", **line)),
}}))"""

    seen = run_script(hub, script, tmp_path / "home", python=stranger, PYTHONPATH="")

    assert "trust_remote_code=True" in seen.pop("without trust")
    assert seen == {"has the package": False, "module": "diffusers_modules", "digest": expected, "pinned": expected}


def test_the_command_prints_the_two_lines_that_load_what_it_pushed(pushed):
    assert loading_lines(REPO, revision="v1") in pushed
    assert loading_lines(REPO, revision="v1").count('revision="v1"') == 3


# Staging


def test_the_staged_folder_holds_what_is_needed_and_nothing_of_this_machine(hub, pushed, staged, run_folder):
    files = contents(staged)

    assert files == hub.repositories[f"models/{REPO}"].files()
    for name in CODE_FILES:
        assert files[name] == (ROOT / "colorize_pipeline" / name).read_bytes()
    assert set(files) - set(CODE_FILES) == {
        "README.md", "model_index.json", "training_config.json", "evaluation.json", "samples/1.png",
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json",
    }  # fmt: skip
    for name, content in files.items():
        if name.endswith((".json", ".md")):
            assert b"_name_or_path" not in content
            for place in (run_folder, staged, ROOT, Path.home(), "../", "/data/"):
                assert f"{place}/".replace("//", "/").encode() not in content.replace(b"://", b""), (name, place)


def test_the_card_tells_the_figures_exactly_and_keeps_no_placeholder(staged):
    card = ModelCard.load(staged / "README.md")
    told = {(result.dataset_name, result.metric_name): result.metric_value for result in card.data.eval_results}
    arguments = [result.metric_args for result in card.data.eval_results]

    assert told == {
        (evaluation["dataset"].split("photos/")[-1], name): value
        for evaluation in json.loads((staged / "evaluation.json").read_text())
        for name, value in evaluation["metrics"].items()
    } == {
        ("kodak", "PSNR (one sample)"): 21.123456789012345, ("kodak", "dE00 (one sample)"): 11.5,
        ("kodak", "PSNR (1-step mean)"): 3e-07, ("user/slides", "mean of |dCF|"): 8,
    }  # fmt: skip
    assert arguments[0] == {"size": 256, "num_inference_steps": 8, "photos": "kodak"}
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == (
        "mit", "diffusers", "image-to-image",
    )  # fmt: skip
    assert card.data.metrics == ["PSNR", "dE00", "mean of |dCF|"]
    assert "| one sample | 21.12 | 11.5 |\n| 1-step mean | 3e-07 |  |" in card.text
    assert "![Sample](samples/1.png)" in card.text
    assert loading_lines(REPO) in card.text
    assert card.text.startswith("# A painter\n\nMade from `{photos}` & patience.") and "## Limits" in card.text
    assert not re.search(r"<!--|how to load it|none yet", card.text)


def test_half_precision_is_staged_without_touching_the_pipeline(run_folder, tmp_path):
    pipeline = make_pipeline()
    before = {name: value.clone() for name, value in pipeline.unet.state_dict().items()}

    stage_model_repository(
        pipeline, tmp_path / "half", repo_id=REPO, card_template=run_folder / "card.md", variant="fp16"
    )

    written = load_file(tmp_path / "half" / "unet" / "diffusion_pytorch_model.fp16.safetensors")
    assert not (tmp_path / "half" / "unet" / "diffusion_pytorch_model.safetensors").exists()
    for name, value in pipeline.unet.state_dict().items():
        assert value.dtype == torch.float32 and torch.equal(value, before[name])
        assert torch.equal(written[name], value.half())
    assert 'variant="fp16"' in (tmp_path / "half" / "README.md").read_text()
    loaded = ColorizationPipeline.from_pretrained(tmp_path / "half", variant="fp16", dtype=torch.float16)
    assert loaded.unet.dtype == torch.float16


def break_with_pickle(folder):
    torch.save({}, folder / "unet" / "diffusion_pytorch_model.bin")


def break_class(folder):
    pipeline = ColorizationPipeline.from_pretrained(folder)
    DDPMPipeline(unet=pipeline.unet, scheduler=pipeline.scheduler).save_pretrained(folder)


def break_channels(folder):
    create_unet("tiny", luminance_patch=2, with_hints=False).save_pretrained(folder / "unet")


def break_weights(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()


def break_values(folder):
    pipeline = ColorizationPipeline.from_pretrained(folder)
    pipeline.unet.conv_in.bias.data[0] = float("nan")
    pipeline.save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (break_with_pickle, "pickled files.*unet/diffusion_pytorch_model.bin"),
        (break_class, "must hold a 'ColorizationPipeline', but its _class_name is 'DDPMPipeline'"),
        (break_channels, "it has 6 inputs and 2 outputs"),
        (break_weights, "no safetensors file"),
        (break_values, "not finite.*conv_in.bias"),
        (shutil.rmtree, "no model_index.json"),
    ],
)
def test_what_is_no_safe_colorization_pipeline_is_refused(run_folder, tmp_path, damage, message):
    folder = shutil.copytree(run_folder / "pipeline", tmp_path / "pipeline")
    damage(folder)

    with pytest.raises(ValueError, match=message):
        stage_model_repository(folder, tmp_path / "new", repo_id=REPO, card_template=run_folder / "card.md")
    if damage is not break_values:  # which only reading the weights can tell
        with pytest.raises(ValueError, match=message):
            push_to_hub(folder, REPO)


@pytest.mark.parametrize(
    ("template", "evaluation", "message"),
    [
        ("no place for them", None, "must mark a place with <!-- figures -->"),
        (TEMPLATE + "[More Information Needed]", None, "leaves a placeholder"),
        (TEMPLATE + "by {{ author }}", None, r"leaves a placeholder in the card: \{\{ author \}\}"),
        (TEMPLATE, {"dataset": "kodak", "metrics": {"PSNR": 20}}, "must each hold num_images and settings"),
        (TEMPLATE, {**EVALUATIONS[1], "metrics": {"PSNR": float("inf")}}, "finite numbers.*PSNR is inf"),
    ],
)
def test_a_card_that_would_be_wrong_is_refused_before_anything_is_written(
    run_folder, tmp_path, template, evaluation, message
):
    (tmp_path / "card.md").write_text(template)

    with pytest.raises(ValueError, match=message):
        stage_model_repository(
            run_folder / "pipeline",
            tmp_path / "new",
            repo_id=REPO,
            card_template=tmp_path / "card.md",
            evaluations=[evaluation] if evaluation else [],
        )

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("template", ["model_card.md", "train/card_template.md"])
def test_the_card_of_this_project_and_that_for_other_models_render(run_folder, tmp_path, template):
    stage_model_repository(
        run_folder / "pipeline", tmp_path / "new", repo_id=REPO, card_template=ROOT / template, evaluations=EVALUATIONS
    )

    card = ModelCard.load(tmp_path / "new" / "README.md")
    assert len(card.data.eval_results) == sum(len(evaluation["metrics"]) for evaluation in EVALUATIONS)
    assert "21.12" in card.text and loading_lines(REPO) in card.text
    assert card.data.license is None  # that is for its author to say
