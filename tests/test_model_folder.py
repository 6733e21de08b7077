"""Model folders from elsewhere: what is wrong with them is said in one line, before it costs anything."""

import shutil

import pytest
import torch
from conftest import REPO, ROOT, make_pipeline
from hub_client import contents, run, run_script, start
from loopback_hub import File, Repository
from model_mutants import make_mutants, set_value
from typer.testing import CliRunner

from colorize_pipeline import ColorizationPipeline
from colorize_pipeline.apps.cli import app
from colorize_pipeline.model_folder import check_configs
from colorize_pipeline.model_trial import check_finite, try_components


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "model"
    make_pipeline(with_encoder=True).save_pretrained(folder)
    return folder


def test_a_sound_folder_with_an_image_encoder_passes_and_an_encoder_of_other_width_does_not(sound, tmp_path):
    try_components(check_configs(sound), {})
    folder = shutil.copytree(sound, tmp_path / "model")
    set_value(folder / "image_encoder" / "config.json", "out_channels", [8, 8, 8, 8, 16, 16, 16])

    with pytest.raises(ValueError, match="plus 16 for luminance, plus 32 for the image encoder.*it has 45 inputs"):
        check_configs(folder)


def test_damage_to_a_folder_is_refused_in_one_line_or_does_no_harm(sound, tmp_path):
    mutants = make_mutants(sound, 400)[::3]
    told = []
    for mutant in mutants:
        folder = shutil.copytree(sound, tmp_path / "scratch" / "model")
        mutant.damage(folder)
        try:
            try_components(check_configs(folder), {})
        except ValueError as error:
            told.append(str(error))
        shutil.rmtree(folder.parent)

    assert not [line for line in told if "\n" in line or not 40 < len(line) < 1000]
    # What passes has weights that are not finite, which only reading them tells, or one more harmless value.
    assert len(told) > 0.85 * len(mutants)


@pytest.mark.parametrize(
    ("file", "name", "value", "words"),
    [
        ("model_index.json", "unet", None, "must be .*UNet2DModel.*, but is None"),
        ("model_index.json", "chroma_scale", -1, "must be a number from 0.001 to 10, but is -1"),
        ("unet/config.json", "norm_num_groups", 0, "must be a whole number from 1 to 2048, but is 0"),
        ("unet/config.json", "layers_per_block", 10**9, "must be a whole number from 1 to 4, but is 1000000000"),
        ("scheduler/scheduler_config.json", "num_train_timesteps", 1e8, "must be a whole number .* is 100000000.0"),
        ("scheduler/scheduler_config.json", "beta_end", float("nan"), "must be a number from 0 to 1, but is nan"),
        ("image_encoder/config.json", "num_channels", 1, "must be a whole number from 3 to 3, but is 1"),
        ("image_encoder/config.json", "strides", [1] * 7, "must hold one to four 2"),
    ],
)
def test_a_value_that_may_not_be_is_named_with_what_may(sound, tmp_path, file, name, value, words):
    folder = shutil.copytree(sound, tmp_path / "model")
    set_value(folder / file, name, value)

    with pytest.raises(ValueError, match=f"^{file}: '{name}' {words}"):
        check_configs(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_no_numbers_are_refused_where_they_are_loaded(tmp_path, value, dtype):
    pipeline = make_pipeline()
    pipeline.unet.conv_out.bias.data[1] = value
    pipeline.save_pretrained(tmp_path)

    with pytest.raises(ValueError, match=rf"unet are not finite as {dtype}".replace("torch.", "") + ": conv_out.bias"):
        ColorizationPipeline.from_pretrained(tmp_path, dtype=dtype)


def test_numbers_given_at_loading_have_the_same_bounds(sound, tmp_path):
    make_pipeline().save_pretrained(tmp_path)

    with pytest.raises(
        ValueError, match="from_pretrained: 'chroma_scale' must be a number from 0.001 to 10, but is -1"
    ):
        ColorizationPipeline.from_pretrained(tmp_path, chroma_scale=-1)


@pytest.mark.parametrize("model", ["nosuch", "no/such/folder", "runs\\mine", __file__])
def test_a_model_that_is_neither_a_folder_nor_a_name_on_the_hub_is_refused_at_once(model):
    result = CliRunner().invoke(app, ["photo.png", "--model", model])

    assert result.exit_code == 1
    (line,) = result.output.strip().splitlines()
    assert repr(model) in line and "no folder" in line and "user/model" in line


def test_on_the_hub_a_model_is_checked_before_its_weights_are_fetched_and_a_refusal_is_one_line(hub, sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "model")
    set_value(folder / "unet" / "config.json", "layers_per_block", 10**9)
    files = {path: File(content, "safetensors" in path) for path, content in contents(folder).items()}
    for name, private in (("poisoned", False), ("hidden", True), ("empty", False)):
        hub.repositories[f"models/ann/{name}"] = Repository("ann", private)
    hub.repositories["models/ann/poisoned"].commit("main", "all", files)
    script = """
from colorize_pipeline import ColorizationPipeline
calls = [("ann/poisoned", {}), ("ann/hidden", {}), ("ann/none", {}), ("ann/empty", {"revision": "v9"}),
         ("ann/empty", {}), ("ann/none", {"local_files_only": True})]
print(json.dumps([refused(lambda: ColorizationPipeline.from_pretrained(name, **how)) for name, how in calls]))"""
    asked_before = len(hub.requests)

    told = run_script(hub, script, tmp_path / "home")

    expected = ["'layers_per_block'", "no model ann/hidden", "no model ann/none", "no such revision"]
    for line, words in zip(told, [*expected, "holds no model_index.json", "not in the cache"], strict=True):
        assert words in line and "\n" not in line and len(line) < 400
    asked = hub.requests[asked_before:]
    assert any("unet/config.json" in request for request in asked)
    assert not any("safetensors" in request for request in asked)


def test_what_the_hub_refuses_at_a_push_is_one_line(hub, staged, run_folder, tmp_path):
    hub.repositories.setdefault(f"models/{REPO}", Repository("ann", private=False))
    script = f"""
from colorize_pipeline.hub import push_to_hub
for how in ({{"token": False}}, {{"token": "bob-token"}}, {{"token": "ann-token", "private": True}}):
    try:
        push_to_hub({str(staged)!r}, "{REPO}", **how)
    except (OSError, ValueError) as error:
        print(error)"""
    command = [ROOT / "train" / "push_to_hub.py", run_folder / "pipeline", REPO]

    told = run(hub, ["-c", script], tmp_path / "home").splitlines()
    process = start(hub, command, tmp_path / "home")
    (line,) = [line for line in process.communicate()[1].splitlines() if line.strip() and "%|" not in line]

    for reason, words in zip(told, ("does not know you (401)", "no right", "is public"), strict=True):
        assert words in reason
    assert process.returncode == 1
    assert line.startswith("Nothing more is pushed: ") and "(401)" in line


def test_networks_are_finite_until_one_number_is_not():
    network = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm2d(2))
    check_finite({"unet": network, "scheduler": object()})
    network[1].running_var[0] = float("nan")

    with pytest.raises(ValueError, match="unet are not finite as float32: 1.running_var"):
        check_finite({"unet": network})
