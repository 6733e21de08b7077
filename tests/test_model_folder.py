"""Model folders from elsewhere: what is wrong with them is said in one line, before it costs anything."""

import shutil
import time

import numpy as np
import pytest
import torch
from conftest import make_pipeline, seeded
from model_mutants import CONFIGS, make_mutants, save_with_image_encoder, set_value

from colorize_pipeline import DEFAULT_CHECKPOINT, ColorizationPipeline
from colorize_pipeline.hub import push_to_hub
from colorize_pipeline.model_folder import check_configs, check_weights
from colorize_pipeline.model_trial import check_finite, try_components


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound") / "model"
    save_with_image_encoder(folder)
    return folder


def test_every_damage_to_a_folder_is_refused_in_one_line_or_does_no_harm(sound, tmp_path):
    harmless = []
    for number, mutant in enumerate(make_mutants(sound, 400)[::4]):
        folder = shutil.copytree(sound, tmp_path / str(number) / "model")
        mutant.damage(folder)
        try:
            try_components(check_configs(folder), {})
            harmless.append(mutant.name)
        except ValueError as error:
            assert "\n" not in str(error) and len(str(error)) < 1000, mutant.name
        shutil.rmtree(folder.parent)
    print(len(harmless), harmless)
