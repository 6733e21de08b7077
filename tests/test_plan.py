"""Which photos a job takes, and where their results go."""

import os

import numpy as np
import pytest
from archive_jobs import plan
from PIL import Image

from colorize_pipeline.apps.plan import compare_path, result_name


def test_everything_that_is_passed_over_is_named_with_its_reason(album):
    (album / "1936" / "notes.txt").touch()
    (album / "LICENSE").touch()
    (album / ".0.jpg").touch()
    (album / "0.color.png").touch()
    (album / "elsewhere").symlink_to(album / "1936")
    (album / "gone.jpg").symlink_to("nowhere.jpg")
    (album / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(album / "pipe.jpg")

    found = plan(album, album / "missing.jpg", exclude=("1936/*0.png",))

    reasons = {os.path.basename(entry.path): entry.reason for entry in found.passed_over}
    assert reasons == {
        "notes.txt": "not a photo by its suffix: .txt",
        "LICENSE": "not a photo: no suffix",
        ".0.jpg": "hidden",
        "0.color.png": "result of an earlier run by its name",
        "elsewhere": "link to a folder",
        "old 0.png": "left out by --exclude",
    }
    problems = {os.path.basename(job.source): job.problem for job in found.jobs if job.problem}
    assert problems == {
        "gone.jpg": "No such file or directory",
        "loop.jpg": "Too many levels of symbolic links",
        "missing.jpg": "No such file or directory",
        "pipe.jpg": "not a regular file",
    }
    assert len(found.jobs) == 3 + 2 + len(problems)


def test_a_selection_takes_photos_by_name_by_path_and_by_time(album):
    os.utime(album / "0.jpg", (0, 0))

    def names(**wanted):
        jobs = plan(album, **wanted).jobs
        return [os.path.relpath(job.source, album) for job in jobs]

    assert names(only=("*.jpg",)) == ["0.jpg", "1.jpg", "2.jpg"]
    assert names(only=("1936/*",), exclude=("*1*.png", "*2.png")) == []
    assert names(only=("old*",), exclude=("* 1.png",)) == ["1936/old 0.png", "1936/old 2.png"]
    assert names(only=("*.jpg",), newer_than=1.0) == ["1.jpg", "2.jpg"]


def test_names_of_results_do_not_depend_on_the_selection(album):
    Image.new("L", (4, 4)).save(album / "0.png")

    alone, all_ = (plan(album, only=only).jobs for only in (("0.jpg",), ()))

    assert alone[0].targets == (str(album / "0.jpg.color.png"),)
    assert alone[0].targets in [job.targets for job in all_]


@pytest.mark.parametrize("stem", ["a" * 240, "a" * 246, "ü" * 125, "a" * 246 + "b"])
def test_the_name_of_a_result_fits_the_file_system_and_stays_its_own(stem):
    names = [result_name(stem, version) for version in ("", "-12345")]

    assert all(len(os.fsencode(compare_path(name))) <= 255 and name.endswith(".png") for name in names)
    assert (names[0] == f"{stem}.color.png") == (len(os.fsencode(stem)) <= 243)
    assert result_name(stem + "c", "") not in names


def test_pages_and_formats_decide_the_names_and_the_names_are_cut_before_them(album, photo):
    scan = Image.fromarray(np.asarray(photo).astype(np.uint16) * 257)
    for name in ("0.tif", "a" * 250 + ".tif", "1936/one.tif"):
        scan.save(album / name, save_all=True, append_images=[scan] * ("one" not in name))
    (album / "scan.nef").touch()

    found = plan(album, only=("*0.*", "aaa*", "one*"), wanted_format="same", all_pages=True)
    first = plan(album / "0.tif", wanted_format="webp").jobs

    targets = {os.path.relpath(target, album): job.page for job in found.jobs for target in job.targets}
    long = [name for name in targets if name.startswith("aaa")]
    assert {name: page for name, page in targets.items() if name not in long} == {
        "0.jpg.color.jpg": None,
        "0.tif.page-1.color.tif": 0,
        "0.tif.page-2.color.tif": 1,
        "1936/old 0.color.png": None,
        "1936/one.color.tif": None,
    }
    assert [targets[name] for name in long] == [0, 1] and all(len(compare_path(name)) <= 255 for name in long)
    assert [(job.targets, job.page) for job in first] == [((str(album / "0.color.webp"),), None)]
    assert any("raw file" in entry.reason for entry in found.passed_over if entry.path.endswith("scan.nef"))
