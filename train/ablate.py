"""
What each choice of the recipe is worth: short runs that differ in one thing, at equal compute.

    python train/ablate.py --photos ../shared/photos --evaluation ../shared/photos --evaluation-files 'other-*.parquet'

trains every variant with `train.py`, scores it with `evaluate.py`, and writes `ablation.json` and `ablation.md` to
`--results`. Runs that are finished are not repeated. `--only NAME ...` chooses variants; what the results hold of the
others stays there: also rows of options that lost and were deleted from the code. Every row keeps the command that
trained it and the commit that began it; a run of another command is not taken for it.

Equal compute means equal floating-point operations of network and image encoder: a variant with larger crops or a
larger network sees fewer photos, with the same shares of them for warm-up and decay. (The optimizer's own are not
counted.) All variants see the same photos in the same order, up to that number. Two seeds of the recipe tell what is
chance.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

from optimization.training_config import parse_config
from optimization.training_speed import training_flops


TRAIN = Path(__file__).parent

# The budget is that of the first variant, which all others are compared with.
_PHOTOS = 20_480
_BATCH_SIZE = 32
_WARMUP_SHARE, _DECAY_SHARE = 1 / 8, 3 / 8

_RECIPE = (
    "--preset small --image_encoder lite2 --noises_per_photo 2 --mixed_precision bf16 --resolutions 64"
    f" --processing_resolution 64 --stage_photos {_PHOTOS} --batch_size {_BATCH_SIZE} --min_crop 0.75"
    " --frozen_encoder_photos 3200 --checkpoint_photos 1000000 --validation_photos 0 --log_photos 3200"
)

# Name of a row: flags of training, flags of the evaluation.
_VARIANTS = {
    "recipe": ("", ""),
    "recipe, another seed": ("--seed 1", ""),
    "no image encoder": ("--image_encoder= --frozen_encoder_photos 0", ""),
    "EfficientNet-Lite0": ("--image_encoder lite0", ""),
    "encoder frozen": ("--encoder_learning_rate 0", ""),
    "encoder trained from the start": ("--frozen_encoder_photos 0", ""),
    "encoder_learning_rate 1e-3": ("--encoder_learning_rate 1e-3", ""),
    "encoder_resolution 96": ("--encoder_resolution 96", ""),
    "encoder_resolution 192": ("--encoder_resolution 192", ""),
    "noises_per_photo 1": ("--noises_per_photo 1", ""),
    "noises_per_photo 4": ("--noises_per_photo 4", ""),
    "RGB, epsilon, linear, T = 300 (COLORIZED's formulation)": (
        "--image_encoder= --target rgb --luminance_patch 1 --with_hints false --prediction_type epsilon"
        " --rescale_betas_zero_snr false --num_train_timesteps 300 --noises_per_photo 1",
        "--steps 50",
    ),
    "cosine schedule": ("--beta_schedule squaredcos_cap_v2", ""),
    "chroma_scale 0.0875": ("--chroma_scale 0.0875", ""),
    "chroma_scale 0.28": ("--chroma_scale 0.28", ""),
    "muon_learning_rate 5e-3": ("--muon_learning_rate 5e-3", ""),
    "no gray mixing, no degraded grays": ("--gray_mixing_probability 0 --degradation_probability 0", ""),
    "whole photos": ("--min_crop 1", ""),
    "crops of 128": ("--resolutions 128 --processing_resolution 128", ""),
    "trained at 64, painted at 128": ("", "--processing-resolution 128"),
    "10% without condition": ("--condition_dropout 0.1", ""),
    "10% without condition, guidance 1.5": ("--condition_dropout 0.1", "--guidance-scale 1.5"),
    "10% without condition, guidance 2.5": ("--condition_dropout 0.1", "--guidance-scale 2.5"),
    "medium network (attention)": ("--preset medium", ""),
}

_COLUMNS = {
    "1-step mean dE00": ("1-step mean", "dE00"),
    "one sample dE00": ("one sample", "dE00"),
    "best of 8 dE00": ("best of 8", "dE00"),
    "AuC of the mean": ("1-step mean", "AuC"),
    "sample CF": ("one sample", "CF"),
    "true CF": ("one sample", "true CF"),
}


def main(arguments: argparse.Namespace) -> None:
    recipe = [*shlex.split(_RECIPE), "--dataset", arguments.photos, "--dataset_files", arguments.files]
    if arguments.source_weights:
        recipe += ["--source_weights", *arguments.source_weights]
    budget = _PHOTOS * training_flops(parse_config([*recipe, "--output_dir", "unused"]), 64)
    results_folder = Path(arguments.results)
    sets = [str(Path(source) / arguments.evaluation_files) for source in arguments.evaluation]
    scored_on = f"{arguments.max_photos} of {', '.join(sets)}"
    others = {row["scored_on"] for row in read(results_folder).values()} - {scored_on}
    if others:
        raise ValueError(f"`--results` {results_folder} holds scores of {', '.join(others)}: name another folder.")
    for name in arguments.only or _VARIANTS:
        training_flags, evaluation_flags = (shlex.split(flags) for flags in _VARIANTS[name])
        flags = [*recipe, *training_flags]
        config = parse_config([*flags, "--output_dir", "unused"])
        updates = round(budget / training_flops(config, config.resolutions[0]) / _BATCH_SIZE)
        photos = max(1, updates) * _BATCH_SIZE
        run = Path(arguments.output) / (slug(training_flags) or "recipe")
        training = [*flags, "--stage_photos", str(photos)]
        training += ["--warmup_photos", str(int(_WARMUP_SHARE * photos))]
        training += ["--decay_photos", str(int(_DECAY_SHARE * photos))]
        training += ["--output_dir", str(run)]
        print(f"== {name}: {photos} photos")
        command = shlex.join(["python", "train/train.py", *training])
        begun = run / "ablation.json"
        if not begun.exists():
            run.mkdir(parents=True, exist_ok=True)
            begun.write_text(json.dumps({"train": command, "commit": git_commit()}, indent=1) + "\n")
        provenance = json.loads(begun.read_text())
        if provenance["train"] != command:
            raise ValueError(f"`--output`: {run} holds a run of another command. Choose another folder, or delete it.")
        if not (run / "pipeline" / "model_index.json").exists():
            start(TRAIN / "train.py", training)
        evaluation = ["--checkpoint", str(run / "pipeline"), "--photos", *arguments.evaluation, *evaluation_flags]
        evaluation += ["--files", arguments.evaluation_files]
        evaluation += ["--steps", "8"] if "--steps" not in evaluation else []
        evaluation += ["--size", "128", "--max-photos", str(arguments.max_photos), "--dtype", "bfloat16"]
        evaluation += ["--output", str(run / slug(["scores", str(arguments.max_photos), *sets, *evaluation_flags]))]
        scores = Path(evaluation[-1]) / "results.json"
        if not scores.exists():
            start(TRAIN / "evaluate.py", evaluation)
        results = json.loads(scores.read_text())
        rows = read(results_folder)  # again: meanwhile another call may have added some
        rows[name] = {
            "name": name,
            "against": "" if name == "recipe" else "recipe",
            "photos": photos,
            "tflop": photos * training_flops(config, config.resolutions[0]) / 1e12,
            **provenance,
            "evaluate": shlex.join(["python", "train/evaluate.py", *evaluation]),
            "scored_on": scored_on,
            "num_images": results["num_images"],
            "settings": results["settings"],
            "rows": results["rows"],
        }
        write([rows[name] for name in sorted(rows, key=[*_VARIANTS, *rows].index)], results_folder)


def read(folder: Path) -> dict[str, dict]:
    """Read the rows that earlier calls left, by name."""
    file = folder / "ablation.json"
    return {row["name"]: row for row in json.loads(file.read_text())} if file.exists() else {}


def git_commit() -> str:
    """Name the commit of this code."""
    command = ["git", "-C", str(TRAIN), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def slug(flags: list[str]) -> str:
    """Give a name for a folder."""
    return "-".join("".join(c if c.isalnum() else " " for c in " ".join(flags)).split())


def start(script: Path, flags: list[str]) -> None:
    subprocess.run([sys.executable, str(script), *flags], check=True)


def write(rows: list[dict], folder: Path) -> None:
    """Write all rows so far: whole as JSON, and as a table beside the gray row."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ablation.json").write_text(json.dumps(rows, indent=1) + "\n")
    lines = [
        f"Short runs of {rows[0]['tflop']:.0f} TFLOP each (of the network; the optimizer's own are not counted),"
        f" scored on {rows[0]['num_images']} photos, by `python train/ablate.py`.",
        "",
        "`ablation.json` has every score, the commands that train and score each row by itself, and the commit whose"
        " code ran them: what lost is deleted afterwards, and names may change.",
        "",
    ]
    lines += ["| | differs from | photos | " + " | ".join(_COLUMNS) + " |", "|---" * (len(_COLUMNS) + 3) + "|"]
    lines.append(f"| gray | | | {rows[0]['rows']['gray input']['dE00']:.2f} |" + " |" * (len(_COLUMNS) - 1))
    for row in rows:
        cells = (f"{row['rows'][line][column]:.2f}" for line, column in _COLUMNS.values())
        lines.append(f"| {row['name']} | {row['against']} | {row['photos']} | " + " | ".join(cells) + " |")
    (folder / "ablation.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", required=True, help="folder of parquet shards or photos to train on")
    parser.add_argument("--files", default="train-*.parquet", help="which shards")
    parser.add_argument("--source-weights", nargs="*", default=[], help="as in the training configuration")
    parser.add_argument("--evaluation", required=True, nargs="+", help="folders of color photos to score on")
    parser.add_argument("--evaluation-files", default="*.parquet", help="which of their shards")
    parser.add_argument("--max-photos", type=int, default=24, help="of each of these folders")
    parser.add_argument("--output", default="runs/ablation", help="folder of the runs")
    parser.add_argument("--results", default="train/results", help="folder of the table")
    parser.add_argument("--only", nargs="+", choices=_VARIANTS, metavar="NAME", help="these variants only")
    main(parser.parse_args())
