"""
Push a trained pipeline to the Hub, with its card, its code and its figures:

    python train/evaluate.py --checkpoint runs/small/pipeline --photos kodak --output runs/kodak
    python train/push_to_hub.py runs/small/pipeline user/model --evaluation runs/kodak/results.json --private

Log in first with `hf auth login`, or set HF_TOKEN. When it was interrupted, give the same command again.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from colorize_pipeline.hub import loading_lines, push_to_hub, stage_model_repository


CARD_TEMPLATE = Path(__file__).parent / "card_template.md"


def main(arguments: argparse.Namespace) -> None:
    # 1. What the run left beside its pipeline
    config_file = arguments.pipeline.parent / "training_config.json"
    training_config = json.loads(config_file.read_text()) if config_file.exists() else None
    evaluations = [json.loads(file.read_text()) for file in arguments.evaluation]

    # 2. Stage, and push
    with tempfile.TemporaryDirectory() as folder:
        stage_model_repository(
            arguments.pipeline,
            folder,
            repo_id=arguments.repo_id,
            card_template=arguments.card_template,
            variant=arguments.variant,
            evaluations=evaluations,
            training_config=training_config,
            samples=arguments.samples,
            datasets=arguments.datasets,
            tags=arguments.tags,
            license=arguments.license,
        )
        commit = push_to_hub(
            folder,
            arguments.repo_id,
            private=arguments.private,
            branch=arguments.branch,
            commit_message=arguments.commit_message,
            tag=arguments.tag,
            overwrite_card=arguments.overwrite_card,
        )

    # 3. Tell how to load it
    print(f"{commit.commit_url}\n\nWith this package installed, and with diffusers alone:\n")
    print(loading_lines(arguments.repo_id, variant=arguments.variant, revision=arguments.tag or arguments.branch))


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipeline", type=Path, help="folder that training saved, such as runs/small/pipeline")
    parser.add_argument("repo_id", help="user/model; it is made if it does not exist")
    parser.add_argument(
        "--private",
        action=argparse.BooleanOptionalAction,
        help="whether only you see it; default: as it is, or as your account is set",
    )
    parser.add_argument("--branch", help="commit there instead of to main; it is made if it does not exist")
    parser.add_argument("--tag", help="name for this state, such as v0.1.0")
    parser.add_argument("--commit-message", default="Upload colorization pipeline")
    parser.add_argument("--variant", choices=["fp16"], help="write the weights as float16; default: float32")
    parser.add_argument("--overwrite-card", action="store_true", help="replace a card that is already on the Hub")
    parser.add_argument("--evaluation", type=Path, nargs="*", default=[], help="results.json of train/evaluate.py")
    parser.add_argument("--samples", type=Path, nargs="*", default=[], help="pictures for the card")
    parser.add_argument("--datasets", nargs="*", default=[], help="Hub names of the training data, for the card")
    parser.add_argument("--tags", nargs="*", default=[], help="more tags for the card")
    parser.add_argument("--license", help="of your model, for the card, such as apache-2.0; default: none is named")
    parser.add_argument(
        "--card-template",
        type=Path,
        default=CARD_TEMPLATE,
        help="what the card tells about your model, as model_card.md does of the model that ships; default: what is"
        " true of all",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        main(parse_arguments())
    except (OSError, ValueError) as error:  # what the folder, a file or the Hub refuses
        sys.exit(f"Nothing more is pushed: {' '.join(str(error).split())}")
