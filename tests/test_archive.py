"""The command line on whole archives: workers, streams, report."""

import base64
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from archive_jobs import COLORIZE, checksums, invoke, journal_rows
from PIL import Image
from typer.testing import CliRunner

from colorize_pipeline.apps import info
from colorize_pipeline.apps.cli import app
from colorize_pipeline.apps.engines import paint_in_processes
from colorize_pipeline.apps.plan import PassedOver
from colorize_pipeline.apps.provenance import noise_seed
from colorize_pipeline.apps.report import summary, write_report
from colorize_pipeline.apps.tasks import Settings, Task


def test_a_photo_gets_the_same_bytes_in_a_folder_alone_under_another_name_and_in_a_process(
    tmp_path, album, checkpoint
):
    assert invoke(album, "-o", tmp_path / "folder", "--model", checkpoint).exit_code == 0
    os.link(album / "1.jpg", tmp_path / "other name.jpg")
    assert invoke(tmp_path / "other name.jpg", "-o", tmp_path / "alone.png", "--model", checkpoint).exit_code == 0
    names = [path.stem for path in sorted(album.glob("*.jpg"))]
    tasks = [Task(str(album / f"{name}.jpg"), ((0, str(tmp_path / f"{name}.color.png")),), ()) for name in names]
    outcomes = []
    for outcome in paint_in_processes(tasks, Settings(model=checkpoint), workers=1):
        if not outcomes:  # kill the process with all that it has; another goes on
            (process,) = multiprocessing.active_children()
            process.kill()
        outcomes.append(outcome)

    expected = checksums(tmp_path / "folder")
    assert hashlib.sha256((tmp_path / "alone.png").read_bytes()).hexdigest() == expected["1.color.png"]
    assert Counter(outcome.task for outcome in outcomes) == Counter(tasks)
    verdicts = {os.path.basename(verdict.target): verdict for outcome in outcomes for verdict in outcome.verdicts}
    assert {name: verdict.result_sha256 for name, verdict in verdicts.items()} == {
        f"{name}.color.png": expected[f"{name}.color.png"] for name in names
    }


def test_versions_get_the_bytes_that_each_gets_alone(tmp_path, album, checkpoint):
    photo = album / "0.jpg"
    assert invoke(photo, "-o", tmp_path / "both", "--model", checkpoint, "--num-images", 2).exit_code == 0
    assert invoke(photo, "-o", tmp_path / "second.png", "--model", checkpoint, "--seed", 1).exit_code == 0

    assert (tmp_path / "second.png").read_bytes() == (tmp_path / "both" / "0.color-1.png").read_bytes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
def test_a_result_names_the_seed_with_which_another_run_gives_the_same_bytes(tmp_path, album, checkpoint, suffix):
    Image.open(album / "0.jpg").save(album / "scan.tif", save_all=True, append_images=[Image.open(album / "1.jpg")])
    options = ["--model", checkpoint, "--format", suffix, "--pages", "all", "--saturation", 1.2]
    command = [album, "--only", "scan.tif", *options, "-o"]
    assert invoke(*command, tmp_path / "first", "--seed", 6, "--num-images", 2).exit_code == 0
    result = tmp_path / "first" / f"scan.page-2.color-7.{suffix}"

    record = json.loads(CliRunner().invoke(info.app, [str(result), "--json"]).output)["record"]
    seed = ["--seed", record["seed"]]
    assert invoke(*command, tmp_path / "again", *seed).exit_code == 0

    assert (tmp_path / "again" / f"scan.page-2.color.{suffix}").read_bytes() == result.read_bytes()
    source = hashlib.sha256((album / "scan.tif").read_bytes()).hexdigest()
    assert record["seed"] == 7 and record["noise_seed"] == noise_seed(source, 1, 7)
    assert record["settings"]["page"] == 2 and record["settings"]["saturation"] == 1.2


def test_the_dtype_is_that_of_the_processor_unless_asked_for_and_is_told(tmp_path, album, checkpoint):
    able = torch.cpu.get_capabilities()
    own = "bfloat16" if able.get("amx_bf16") or able.get("avx512_bf16") else "float32"
    for asked, dtype in (("auto", own), ("float32", "float32")):
        out = tmp_path / asked
        options = ["--model", checkpoint, "--dtype", asked, "--device", "cpu"]
        assert invoke(album, "--only", "0.jpg", "-o", out, *options).exit_code == 0

        said = json.loads(CliRunner().invoke(info.app, [str(out / "0.color.png"), "--json"]).output)
        assert said["record"]["settings"]["dtype"] == dtype
        with sqlite3.connect(out / ".colorize" / "journal.sqlite") as connection:
            assert connection.execute("SELECT dtype FROM result").fetchall() == [(dtype,)]


def test_the_noise_comes_from_the_content_the_page_and_the_seed():
    checksums = [hashlib.sha256(content).hexdigest() for content in (b"a", b"b")]
    seeds = {noise_seed(*what) for what in itertools.product(checksums, (None, 0, 1), (0, 1))}

    assert len(seeds) == 8 and all(0 <= seed < 2**64 for seed in seeds)  # the first page is the first, named or not


def test_a_killed_run_goes_on_to_the_same_results_and_journal(tmp_path, album, checkpoint):
    (album / "broken.jpg").write_bytes(b"no photo")
    command = [*COLORIZE, str(album), "--model", checkpoint, "-o"]
    assert invoke(album, "--model", checkpoint, "-o", tmp_path / "alone").exit_code == 1
    with subprocess.Popen([*command, str(tmp_path / "out")], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.readline()
        run.kill()
    leftover = tmp_path / "out" / ".colorize" / ("f" * 32)
    leftover.mkdir()

    result = invoke(album, "--model", checkpoint, "-o", tmp_path / "out")

    assert result.exit_code == 1 and "done before" in result.output, result.output
    assert checksums(tmp_path / "out") == checksums(tmp_path / "alone")
    assert journal_rows(tmp_path / "out") == journal_rows(tmp_path / "alone")
    assert [path.name for path in (tmp_path / "out" / ".colorize").iterdir()] == ["journal.sqlite"]


def test_a_finished_job_is_not_painted_again_and_what_failed_only_if_asked(tmp_path, album, checkpoint, photo):
    (album / "broken.jpg").write_bytes(b"no photo")
    command = [album, "-o", tmp_path / "out", "--model", checkpoint]
    assert invoke(*command).exit_code == 1
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    (tmp_path / "out" / "1.color.png").unlink()

    again = invoke(*command)
    photo.save(album / "broken.jpg.jpg")
    os.replace(album / "broken.jpg.jpg", album / "broken.jpg")
    os.utime(album / "broken.jpg", ns=(0, 0))
    mended = invoke(*command)

    assert again.exit_code == 1 and "not colorized before: " in again.output and "5 done before" in again.output
    assert "1 colorized" in again.output
    assert mended.exit_code == 0 and "1 colorized" in mended.output, mended.output
    later = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    assert {path for path in times if later[path] != times[path]} == {tmp_path / "out" / "1.color.png"}


def test_retry_failed_tries_again(tmp_path, album, checkpoint):
    command = [album, "-o", tmp_path / "out", "--model", checkpoint, "--only", "0.jpg"]
    assert "more than 1 megapixels" not in invoke(*command, "--dry-run").output
    Image.new("L", (1500, 1000), 90).save(album / "0.jpg")
    assert invoke(*command, "--max-megapixels", 1).exit_code == 1

    before, retried = invoke(*command), invoke(*command, "--retry-failed")

    assert before.exit_code == 1 and "not colorized before: more than 1 megapixels" in before.output
    assert retried.exit_code == 0 and "1 colorized" in retried.output, retried.output


def test_what_failed_for_what_was_asked_is_tried_as_soon_as_it_is_asked_otherwise(tmp_path, album, checkpoint):
    Image.fromarray(np.full((20, 30), 30_000, np.uint16)).save(album / "0.png")
    command = [album, "-o", tmp_path / "out", "--model", checkpoint, "--only", "0.png", "--format", "jpg"]

    refused, before, rounded = invoke(*command), invoke(*command), invoke(*command, "--depth", 8)

    assert refused.exit_code == 1 and "take --depth 8" in refused.output
    assert before.exit_code == 1 and "not colorized before: .jpg files hold 8 bit" in before.output
    assert rounded.exit_code == 0 and "1 colorized" in rounded.output, rounded.output


def test_every_page_is_a_photo_of_its_own(tmp_path, album, checkpoint):
    page = Image.open(album / "0.jpg")
    page.save(album / "twice.tif", save_all=True, append_images=[page])
    command = [album, "-o", tmp_path / "out", "--model", checkpoint, "--only", "*.tif", "--pages", "all"]
    assert invoke(*command).exit_code == 0
    before = checksums(tmp_path / "out")
    (tmp_path / "out" / "twice.page-2.color.png").unlink()

    again = invoke(*command)

    assert "1 colorized" in again.output and "1 done before" in again.output
    assert checksums(tmp_path / "out") == before and len(set(before.values())) == 2  # each has its own noise
    with sqlite3.connect(tmp_path / "out" / ".colorize" / "journal.sqlite") as connection:
        pages = connection.execute("SELECT CAST(target AS TEXT), page, state FROM result ORDER BY page").fetchall()
    assert pages == [(f"twice.page-{page}.color.png", page, "done") for page in (1, 2)]


def test_a_dry_run_tells_all_and_touches_nothing(tmp_path, album):
    (album / "readme.md").touch()

    result = invoke(album, album / "missing.jpg", "-o", tmp_path / "out", "--dry-run")

    assert result.exit_code == 0 and not (tmp_path / "out").exists()
    lines = result.stdout.splitlines()
    assert f"{album / '0.jpg'} -> {tmp_path / 'out' / '0.color.png'}" in lines
    assert f"{album / 'readme.md'}: passed over: not a photo by its suffix: .md" in lines
    assert f"{album / 'missing.jpg'}: cannot be colorized: No such file or directory" in lines
    assert any(line.startswith("6 photos to colorize, ") and "a guess" in line for line in lines)


def test_keep_times_gives_results_the_times_of_their_photos(tmp_path, album, checkpoint):
    os.utime(album / "0.jpg", ns=(10**18, 10**18 + 5 * 10**8))

    result = invoke(album / "0.jpg", "-o", tmp_path / "color.png", "--model", checkpoint, "--keep-times")

    assert result.exit_code == 0, result.output
    assert (tmp_path / "color.png").stat().st_mtime_ns == 10**18 + 5 * 10**8


def test_a_photo_goes_from_standard_input_to_standard_output(tmp_path, album, checkpoint):
    invoke(album / "0.jpg", "-o", tmp_path / "file.png", "--model", checkpoint)

    result = CliRunner().invoke(app, ["-", "--model", checkpoint], input=(album / "0.jpg").read_bytes())

    assert result.exit_code == 0 and result.stdout_bytes == (tmp_path / "file.png").read_bytes()
    assert not result.stderr


def test_nothing_but_the_picture_goes_to_standard_output_with_it(tmp_path, album, checkpoint):
    photo, report = (album / "0.jpg").read_bytes(), tmp_path / "report.html"

    result = CliRunner().invoke(app, ["-", "--model", checkpoint, "--report", str(report)], input=photo)
    refused = [CliRunner().invoke(app, ["-", *more], input=photo) for more in (["--doubt"], ["--num-images", "2"])]

    assert result.exit_code == 0 and result.stdout_bytes.startswith(b"\x89PNG"), result.output
    assert report.exists() and str(report) in result.stderr
    assert all(each.exit_code == 2 and "takes one picture" in each.stderr for each in refused)


def test_results_go_to_standard_output_and_all_else_to_standard_error(tmp_path, album, checkpoint):
    (album / "broken.jpg").write_bytes(b"no photo")

    result = invoke(album, "-o", tmp_path / "out", "--model", checkpoint)

    assert len(result.stdout.splitlines()) == 6
    assert all(os.path.exists(line) for line in result.stdout.splitlines())
    assert "not colorized" in result.stderr and "%" not in result.stderr  # no bar, it is no terminal


def test_a_report_holds_its_thumbnails_and_names_what_failed(tmp_path, album, checkpoint):
    (album / "broken & torn.jpg").write_bytes(b"no photo")

    result = invoke(album, "-o", tmp_path / "out", "--model", checkpoint, "--report", tmp_path / "report.html")

    page = (tmp_path / "report.html").read_text()
    assert str(tmp_path / "report.html") in result.stdout
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 6 and all(base64.b64decode(picture)[:2] == b"\xff\xd8" for picture in pictures)
    assert "broken &amp; torn" in page and "not colorized: no JPEG, PNG" in page
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_a_report_has_a_page_for_each_thousand_results(tmp_path):
    passed = [PassedOver(f"{number}.txt", "hidden") for number in range(2001)]

    pages = write_report(str(tmp_path / "all.html"), [], passed, summary(Counter(), passed))

    assert [os.path.basename(page) for page in pages] == ["all.html", "all-2.html", "all-3.html"]
    assert (tmp_path / "all-3.html").read_text().count("passed over: hidden") == 1
    assert 'href="all.html"' in (tmp_path / "all-2.html").read_text()
    assert summary(Counter(), passed)[1].startswith("2001 passed over, hidden: 0.txt, 1.txt, 2.txt and 1998 more")


def test_a_full_disk_is_the_failure_of_one_photo_and_is_tried_again(tmp_path, album, checkpoint):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1936").write_text("a file where a folder should be")  # refuses files as a full disk does

    first = invoke(album, "-o", tmp_path / "out", "--model", checkpoint)
    (tmp_path / "out" / "1936").unlink()
    second = invoke(album, "-o", tmp_path / "out", "--model", checkpoint)

    assert first.exit_code == 1 and "3 colorized, 0 kept, 3 failed" in first.output, first.output
    assert second.exit_code == 0 and "3 colorized" in second.output and "3 done before" in second.output


def test_the_command_and_its_plan_start_without_what_takes_seconds():
    code = (
        "import sys\nfrom colorize_pipeline.apps import cli\n"
        "sys.exit(bool({'torch', 'numpy', 'PIL', 'huggingface_hub'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
