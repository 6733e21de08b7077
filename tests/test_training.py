"""The training script, run as a user runs it, on crops of the photos inside scikit-image."""

import io
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from conftest import seeded
from diffusers import DDPMScheduler
from optimization.pretrained_encoder import load_pretrained_encoder, prepare_fine_tuning
from optimization.training_config import TrainingConfig, parse_config
from photos.photo_dataset import SampleMaker, draw_hints
from PIL import Image
from step_curve import read_training

from colorize_pipeline import ColorizationPipeline


TRAIN = Path(__file__).parents[1] / "train"
UNREADABLE_ROWS = 2


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder with one parquet shard: 40 small color photos of two sources, and files that are none."""
    from skimage.data import astronaut, chelsea, coffee

    rows = {"image": [], "source": []}
    for name, pixels in (("astronaut", astronaut()), ("cat", chelsea()), ("coffee", coffee())):
        photo = Image.fromarray(pixels).resize((300, 200))
        for number in range(14):
            encoded = io.BytesIO()
            photo.crop((number * 15, number * 8, number * 15 + 90, number * 8 + 70)).save(encoded, "PNG")
            rows["image"].append({"bytes": encoded.getvalue(), "path": f"{name}-{number}.png"})
            rows["source"].append("people" if name == "astronaut" else "things")
    for number in range(UNREADABLE_ROWS):
        rows["image"][5 + number] = {"bytes": b"not a photo", "path": f"broken-{number}.png"}
    folder = tmp_path_factory.mktemp("photos")
    features = datasets.Features({"image": datasets.Image(decode=False), "source": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "train-00000.parquet")
    return folder


def command(photos, output_dir, **options):
    """The smoke configuration, cut to ten updates of which every one is logged and every second one is saved."""
    settings = {
        "dataset": photos,
        "output_dir": output_dir,
        "resolutions": 32,
        "stage_photos": 160,
        "batch_size": 16,
        "log_photos": 16,
        "checkpoint_photos": 32,
        "validation_photos": 160,
        "num_validation_images": 2,
        **options,
    }
    flags = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return [str(TRAIN / "train.py"), "--config", str(TRAIN / "configs" / "smoke.json"), *flags]


def run(launcher, arguments, **options):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run([*launcher, *arguments], capture_output=True, text=True, env=environment, **options)


def scalars(output_dir, tag="loss"):
    return dict(read_training(output_dir / "logs")[tag])


@pytest.fixture(scope="module")
def uninterrupted(photos, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("uninterrupted")
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1"]
    result = run(launcher, command(photos, output_dir))
    assert result.returncode == 0, result.stderr
    return output_dir


def test_a_run_leaves_a_pipeline_that_colorizes_and_all_that_explains_it(uninterrupted, photo):
    pipeline = ColorizationPipeline.from_pretrained(uninterrupted / "pipeline")

    output = pipeline(photo, generator=torch.Generator().manual_seed(0)).images[0]

    assert np.array_equal(np.asarray(output.convert("L")), np.asarray(photo))
    assert (uninterrupted / "training_config.json").exists()
    assert (uninterrupted / "validation" / "000000160.png").exists()
    assert sorted(path.name for path in uninterrupted.glob("checkpoint-*")) == ["checkpoint-128", "checkpoint-160"]
    assert 0 < scalars(uninterrupted, "validation/delta_e_sample")[160] < 100
    assert scalars(uninterrupted, "unreadable_photos")[160] > 0


def test_a_run_stopped_by_sigterm_and_then_by_kill_9_continues_exactly(photos, uninterrupted, tmp_path):
    arguments = [sys.executable, *command(photos, tmp_path)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""}

    for number, (signal_number, exit_code) in enumerate(((signal.SIGTERM, 143), (signal.SIGKILL, -9))):
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)
        lines = []
        for line in process.stdout:
            lines.append(line)
            if " photos: loss" in line and sum(" photos: loss" in line for line in lines) == 2 + number:
                process.send_signal(signal_number)
        assert process.wait(60) == exit_code, "".join(lines)
        if signal_number == signal.SIGTERM:
            seen = int([line for line in lines if " photos: loss" in line][-1].split()[0])
            assert (tmp_path / f"checkpoint-{seen}").is_dir()
            assert seen <= 3 * 16  # within one step of the signal
    result = run([sys.executable], command(photos, tmp_path))

    assert result.returncode == 0, result.stderr
    assert "resumed from" in result.stdout
    assert scalars(tmp_path) == scalars(uninterrupted)
    weights, expected = (
        ColorizationPipeline.from_pretrained(folder / "pipeline").unet.state_dict()
        for folder in (tmp_path, uninterrupted)
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_run_with_an_image_encoder_trains_its_late_layers_and_keeps_the_early_ones(photos, tmp_path):
    options = {"image_encoder": "lite0", "encoder_resolution": 32, "frozen_encoder_photos": 32, "stage_photos": 64}
    first = run([sys.executable], command(photos, tmp_path / "first", validation_photos=0, **options))
    start = {"initial_pipeline": tmp_path / "first" / "pipeline", "encoder_learning_rate": 0}
    second = run([sys.executable], command(photos, tmp_path / "second", validation_photos=0, **options, **start))

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    pretrained, trained, left = (
        load_pretrained_encoder("lite0").state_dict(),
        *(
            ColorizationPipeline.from_pretrained(tmp_path / name / "pipeline").image_encoder.state_dict()
            for name in ("first", "second")
        ),
    )
    changed = {name for name in pretrained if not torch.equal(pretrained[name], trained[name])}
    assert changed == set(prepare_fine_tuning(load_pretrained_encoder("lite0"), learning_rate=1e-4))
    assert all(torch.equal(trained[name], left[name]) for name in trained)


def test_a_run_killed_between_its_last_checkpoint_and_its_pipeline_writes_the_pipeline(
    photos, uninterrupted, tmp_path
):
    run_again = shutil.copytree(uninterrupted, tmp_path / "run", ignore=shutil.ignore_patterns("pipeline"))

    result = run([sys.executable], command(photos, run_again, validation_photos=0))

    assert result.returncode == 0, result.stderr
    names = ("unet/diffusion_pytorch_model.safetensors", "model_index.json")
    assert all(
        (run_again / "pipeline" / name).read_bytes() == (uninterrupted / "pipeline" / name).read_bytes()
        for name in names
    )


def test_a_run_that_starts_from_a_trained_pipeline_has_its_weights(photos, uninterrupted, tmp_path):
    settings = {
        "initial_pipeline": uninterrupted / "pipeline",
        "muon_learning_rate": 0.0,
        "learning_rate": 0.0,
        "stage_photos": 16,
    }
    result = run([sys.executable], command(photos, tmp_path, validation_photos=0, **settings))

    assert result.returncode == 0, result.stderr
    weights, expected = (
        ColorizationPipeline.from_pretrained(folder / "pipeline").unet.state_dict()
        for folder in (tmp_path, uninterrupted)
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_two_processes_learn_what_one_learns_from_the_same_photos(photos, uninterrupted, tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29617"]

    result = run(launcher, command(photos, tmp_path, batch_size=8))

    assert result.returncode == 0, result.stderr
    assert "2 process(es), 16 photos per update" in result.stdout
    assert scalars(tmp_path) == pytest.approx(scalars(uninterrupted), rel=1e-4)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_photos(photos, tmp_path):
    result = run(
        [sys.executable], command(photos, tmp_path, muon_learning_rate=1e30, max_grad_norm=1e30, warmup_photos=0)
    )

    assert result.returncode == 1
    assert "FloatingPointError: The loss is" in result.stderr
    assert ".png" in result.stderr.rsplit("FloatingPointError: ")[-1]


def samples(photos, tmp_path, number, **options):
    from photos.photo_dataset import create_dataloader

    from train import create_noise_scheduler

    start = options.pop("start", 0)
    shared = {"preset": "tiny", "resolutions": [32], "stage_photos": [960], "batch_size": 8, "num_workers": 0}
    config = TrainingConfig(output_dir=str(tmp_path), dataset=str(photos), **{**shared, **options})
    loader = create_dataloader(config, create_noise_scheduler(config), start, 0, 1)
    return [batch for _, batch in zip(range(number), loader, strict=False)]


@pytest.mark.filterwarnings("ignore:photo broken")
@pytest.mark.parametrize("streaming", [False, True])
def test_a_sample_depends_on_its_position_and_on_nothing_else(photos, tmp_path, streaming):
    options = {"streaming": streaming, "shuffle_buffer": 8}

    from_start = samples(photos, tmp_path, 9, **options)
    resumed = samples(photos, tmp_path, 3, start=48, **options)
    with_workers = samples(photos, tmp_path, 9, num_workers=0 if streaming else 2, **options)

    for batch, other in (*zip(from_start[6:], resumed, strict=True), *zip(from_start, with_workers, strict=True)):
        assert batch["name"] == other["name"]
        assert all(torch.equal(batch[key], other[key]) for key in batch if key != "name")
    assert sum(int(batch["unreadable"].sum()) for batch in from_start) > 0
    assert not torch.equal(from_start[0]["noise"], from_start[1]["noise"])


@pytest.mark.filterwarnings("ignore:photo broken")
def test_a_source_is_drawn_as_often_as_its_weight_says(photos, tmp_path):
    batches = samples(photos, tmp_path, 105, source_weights=["people=0.25"], stage_photos=[840])

    names = [name for batch in batches for name in batch["name"]]
    share = sum(name.startswith("astronaut") for name in names) / len(names)
    assert share == pytest.approx(14 * 0.25 / (14 * 0.25 + 28), abs=0.01)


def test_a_folder_of_photos_trains_like_parquet_whatever_its_files_are_called(photo, tmp_path):
    (tmp_path / "sub [folder]").mkdir()
    names = ["train station.jpg", "test 1.PNG", "sub [folder]/é.jpg"]
    for number, name in enumerate(names):
        photo.convert("RGB").rotate(number * 90).save(tmp_path / name)
    (tmp_path / "._test 1.PNG").write_bytes(b"what a Mac leaves on other disks")

    batch = samples(tmp_path, tmp_path / "run", 1)[0]

    assert {Path(name).relative_to(tmp_path).as_posix() for name in batch["name"]} == set(names)
    assert batch["clean_sample"].shape == (8, 2, 8, 8)
    assert batch["luminance"].shape == (8, 1, 32, 32)
    assert batch["luminance"].abs().max() <= 1


def test_a_crop_is_stretched_by_at_most_what_is_asked_and_its_gray_with_it():
    ramp = np.arange(200, dtype=np.uint8)  # red grows to the right and blue to the bottom: their slopes tell the crop
    planes = np.dstack((np.tile(ramp, (200, 1)), np.zeros((200, 200), np.uint8), np.tile(ramp[:, None], 200)))
    photo, across = Image.fromarray(planes), Image.fromarray(planes[..., 0])

    def sides(max_stretch, position):
        settings = {"target": "rgb", "with_hints": False, "luminance_patch": 1, "resolutions": [32]}
        off = {"gray_mixing_probability": 0.0, "degradation_probability": 0.0, "condition_dropout": 0.0}
        config = TrainingConfig("x", dataset="y", stage_photos=[64], max_stretch=max_stretch, **settings, **off)
        sample = SampleMaker(config, DDPMScheduler())(photo, position, across)
        torch.testing.assert_close(sample["clean_sample"][:1], sample["luminance"])
        red, _, blue = (sample["clean_sample"] * 127.5 + 127.5).abs()
        return (red[16, 24] - red[16, 8]).abs() / 16 * 32, (blue[24, 16] - blue[8, 16]).abs() / 16 * 32

    plain = [width / height for width, height in (sides(1.0, position) for position in range(50))]
    stretched = [width / height for width, height in (sides(2.0, position) for position in range(200))]

    assert plain == pytest.approx([1.0] * 50, rel=0.03)
    assert 1.8 < max(stretched) < 2.05 and 1.8 < 1 / min(stretched) < 2.05


def test_the_noises_of_a_photo_differ_and_lie_equally_spaced_in_time(photos, tmp_path):
    once = samples(photos, tmp_path, 1)[0]
    batch = samples(photos, tmp_path, 1, noises_per_photo=4)[0]

    assert all(torch.equal(batch[key], once[key]) for key in ("clean_sample", "luminance", "hints"))
    assert batch["noise"].shape == (8, 4, 2, 8, 8) and len(batch["noise"].flatten(end_dim=1).unique(dim=0)) == 32
    assert torch.equal(batch["timesteps"][:, :1], once["timesteps"])
    gaps = batch["timesteps"].sort(dim=1).values.diff(dim=1)
    assert gaps.min() >= 249 and gaps.max() <= 251


def test_hints_show_the_true_color_where_the_mask_is_set():
    chroma = torch.arange(128.0).view(2, 8, 8)  # a ramp: the mean of a square is the color in its middle
    drawn = [draw_hints(chroma, seeded(seed)) for seed in range(300)]

    single = [hints for hints in drawn if is_one_square(hints)]
    assert {int(hints[2].sum()) for hints in single} == {1, 4, 9}  # one click is what most users give
    for hints in single:
        known = hints[2] == 1
        expected = chroma[:, known].mean(dim=1, keepdim=True).expand(-1, int(known.sum()))
        torch.testing.assert_close(hints[:2, known], expected)
    for hints in drawn:
        assert (hints[2] == 1).any() and (hints[:2, hints[2] == 0] == 0).all()


def is_one_square(hints: torch.Tensor) -> bool:
    mask = hints[2] == 1
    rows, columns = mask.any(dim=1).sum(), mask.any(dim=0).sum()
    one_color = (hints[:2, mask] == hints[:2, mask][:, :1]).all()  # two that overlap have two
    return bool(rows == columns and rows * columns == mask.sum() and one_color)


def test_a_misspelt_option_is_refused_with_the_nearest_valid_one(tmp_path):
    config = tmp_path / "config.json"
    config.write_text('{"learning_rat": 1e-4}')

    with pytest.raises(ValueError, match="'learning_rat'.*'learning_rate'"):
        parse_config(["--config", str(config), "--output_dir", "x"])
    for flags in (["--batch_sise", "3"], ["-batch_sise", "3"]):
        with pytest.raises(ValueError, match="'batch_sise'.*'batch_size'"):
            parse_config(["--output_dir", "x", *flags])


@pytest.mark.parametrize(
    "settings",
    [
        {"checkpoints_total_limit": -1},
        {"num_inference_steps": 0},
        {"processing_resolution": -5},
        {"min_crop": 1.5},
        {"max_stretch": 0.5},
        {"chroma_scale": 0.0},
        {"variance_type": "learned"},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_a_value_that_would_fail_only_hours_later_is_refused_at_once(settings):
    with pytest.raises(ValueError, match=f"`{next(iter(settings))}`.*{next(iter(settings.values()))}"):
        TrainingConfig(output_dir="x", dataset="y", **settings)


@pytest.mark.parametrize("name", ["small", "smoke"])
def test_the_configurations_that_ship_are_valid_and_flags_win_over_them(name):
    flags = ["--config", str(TRAIN / "configs" / f"{name}.json"), "--output_dir", "x", "--dataset", "y", "--seed", "5"]

    config = parse_config(flags)

    assert (config.dataset, config.seed) == ("y", 5)
    config.check_photos_per_update(config.batch_size * config.gradient_accumulation_steps)


def test_a_folder_with_another_run_is_refused(tmp_path):
    (tmp_path / "training_config.json").write_text('{"preset": "base", "learning_rate": 1.0}')
    config = TrainingConfig(output_dir=str(tmp_path), dataset="x", preset="small")

    with pytest.raises(ValueError, match="`preset` 'base'.*'small'"):
        config.check_same_run(tmp_path / "training_config.json")
    with pytest.raises(ValueError, match="checkpoint of 96 photos.*64 photos per update"):
        config.check_photos_per_update(64, images_seen=96)
