"""The chart of samplers and steps, on a photo inside scikit-image."""

import json
from argparse import Namespace

import pytest
from conftest import make_pipeline
from PIL import Image
from skimage import data
from step_curve import STEPS, main


def test_in_one_step_all_samplers_paint_the_mean_and_in_two_they_part(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(data.coffee()[:300, 100:400]).save(tmp_path / "photos" / "coffee.png")
    make_pipeline().save_pretrained(tmp_path / "checkpoint")

    arguments = {
        "photos": [str(tmp_path / "photos")],
        "files": "*.parquet",
        "split": "test",
        "max_photos": 1,
        "size": 64,
        "samples": 2,
    }
    folders = {"checkpoint": str(tmp_path / "checkpoint"), "training": None, "results": str(tmp_path / "results")}
    main(Namespace(**arguments, **folders))

    rows = json.loads((tmp_path / "results" / "steps.json").read_text())["rows"]
    scores = {steps: [row["one sample dE00"] for row in rows if row["steps"] == steps] for steps in STEPS}
    assert scores[1] == pytest.approx([scores[1][0]] * 5, abs=0.02)
    assert len({round(score, 2) for score in scores[4]}) > 2
    with pytest.raises(ValueError, match="`--training`.*has no logs"):
        main(Namespace(**arguments, **{**folders, "training": str(tmp_path)}))
    assert all(row["best dE00"] <= row["one sample dE00"] for row in rows)
    with Image.open(tmp_path / "results" / "steps.png") as chart:
        assert chart.width > 900
