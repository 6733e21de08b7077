"""The pictures of docs/theory.md, and what that page says about the code."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_pipeline, seeded
from diffusers import DDPMScheduler
from draw import COSINE, LINEAR, TOY_POINTS, toy_forward, toy_reverse, toy_score
from PIL import Image
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from colorize_pipeline.likelihood import forward_marginal


ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "theory.md"


def linked_pictures() -> set[Path]:
    return {Path(name) for name in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", PAGE.read_text())}


@pytest.mark.parametrize("kind", [LINEAR, COSINE], ids=lambda kind: kind.name)
@pytest.mark.parametrize("t", [0, 20, 300, 999])
def test_the_score_of_the_toy_is_the_gradient_of_its_log_density(kind, t):
    schedule = kind.alphas_cumprod(1000)
    noisy = toy_forward(schedule, TOY_POINTS, 40, seeded(0))[t + 1]
    means, variance = forward_marginal(schedule, TOY_POINTS, t)
    deviations = variance.sqrt().expand_as(means)
    density = MixtureSameFamily(Categorical(torch.ones(len(means))), Independent(Normal(means, deviations), 1))
    shifts = 1e-5 * torch.eye(2, dtype=torch.float64)

    score = toy_score(schedule, noisy, t, TOY_POINTS)

    differences = [density.log_prob(noisy + shift) - density.log_prob(noisy - shift) for shift in shifts]
    torch.testing.assert_close(score, torch.stack(differences, dim=1) / 2e-5, rtol=1e-6, atol=1e-6)


def test_the_toy_comes_back_as_it_went():
    number, schedule = 4000, LINEAR.alphas_cumprod(1000)

    forward = toy_forward(schedule, TOY_POINTS, number, seeded(0))
    reverse = toy_reverse(schedule, TOY_POINTS, number, seeded(1))

    distances, nearest = torch.cdist(reverse[0], TOY_POINTS).min(dim=1)
    assert distances.max() < 1e-6
    deviation = (number * 1 / 4 * 3 / 4) ** 0.5
    assert (torch.bincount(nearest, minlength=4) - number / 4).abs().max() < 4 * deviation
    for t in (100, 300, 500, 1000):
        # Kolmogorov and Smirnov: two samples of one distribution are further apart once in a thousand times.
        for out, back in zip(forward[t].T, reverse[t].T, strict=True):
            places = torch.cat((out, back))
            shares = [torch.searchsorted(values.sort().values, places) / number for values in (out, back)]
            assert (shares[0] - shares[1]).abs().max() < 1.95 * (2 / number) ** 0.5


def test_the_command_draws_every_picture_that_the_page_shows(tmp_path):
    pipeline = make_pipeline()
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config, num_train_timesteps=40)
    pipeline.save_pretrained(tmp_path / "pipeline")
    command = [sys.executable, ROOT / "train" / "draw.py", "--checkpoint", tmp_path / "pipeline"]

    subprocess.run([*command, "--output", tmp_path / "theory", "--steps-per-picture", "1"], check=True)

    drawn = {Path("theory", file.name) for file in (tmp_path / "theory").iterdir()}
    assert drawn == {name for name in linked_pictures() if name.parent.name == "theory"}
    for name in drawn:
        with Image.open(tmp_path / name) as new, Image.open(PAGE.parent / name) as shown:
            assert new.size == shown.size and new.format == shown.format


def test_the_pictures_of_the_page_are_there_and_small():
    files = [file for file in PAGE.parent.rglob("*") if file.suffix in (".png", ".jpg", ".gif")]

    assert linked_pictures() <= {file.relative_to(PAGE.parent) for file in files}
    assert sum(file.stat().st_size for file in files) <= 2.5e6
    assert all(file.stat().st_size <= 600e3 for file in files)


def test_every_function_and_test_that_the_page_names_exists():
    links = re.findall(r"\[`(\w+)`\]\(\.\./([\w/]+\.py)\)", PAGE.read_text())

    assert len(links) > 30
    for name, path in links:
        nodes = ast.walk(ast.parse((ROOT / path).read_text()))
        assert name in {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}, (name, path)
