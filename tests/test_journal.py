"""The journal of a job, and the place where its results are made."""

import itertools
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from archive_jobs import invoke

from colorize_pipeline.apps.batch import Request, Run
from colorize_pipeline.apps.journal import Claim, Journal, Verdict
from colorize_pipeline.apps.plan import Job
from colorize_pipeline.apps.tasks import Outcome
from colorize_pipeline.apps.workplace import hold, put_in_place, remove_unfinished, unfinished_folder


def test_a_result_is_claimed_by_one_run_and_those_of_a_dead_run_can_be_taken(tmp_path):
    first, second = (Journal(str(tmp_path), "{}", False) for _ in range(2))
    claims = [Claim(str(tmp_path / name), name, 1, 2, 0, None) for name in ("a", "b")]

    assert first.claim(claims[:1]) == [True]
    assert second.claim(claims) == [False, True]
    assert second.dead({first.run}) == set()
    first.close()  # it ended without a verdict

    assert second.dead({first.run}) == {first.run}
    seen = second.entries()[b"a"]
    assert seen.state == "claimed"
    assert second.claim([Claim(claims[0].target, "a", 1, 2, 0, seen)]) == [True]
    second.record([Verdict(claims[0].target, "done", result_bytes=3)])
    assert second.entries()[b"a"].state == "done" and second.entries()[b"a"].result_bytes == 3
    second.close()
    assert [path.name for path in (tmp_path / ".colorize").iterdir()] == ["journal.sqlite"]


def test_verdicts_of_two_threads_are_all_noted(tmp_path):
    journal = Journal(str(tmp_path), "{}", False)
    targets = [str(tmp_path / f"{number}.png") for number in range(100)]
    journal.claim([Claim(target, "photo", 1, 2, 0, None) for target in targets])

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda target: journal.record([Verdict(target, "done")]), targets))

    assert Counter(entry.state for entry in journal.entries().values()) == {"done": 100}


def test_two_runs_share_the_photos_and_neither_takes_a_result_of_the_other_for_a_stranger(tmp_path):
    jobs = [Job(f"{name}.jpg", (str(tmp_path / f"{name}.color.png"),), 1, 2) for name in "abc"]
    journals = [Journal(str(tmp_path), "{}", False) for _ in range(2)]
    runs = [Run(jobs, Request(), journal, str(tmp_path), 1, lambda line: None) for journal in journals]
    supplies, done = [run.tasks() for run in runs], []

    def paint(number):
        for task in itertools.islice(supplies[number], 1):
            done.append(task.source)
            ((_, target),) = task.versions
            open(target, "w").close()
            runs[number].note(Outcome(task, (Verdict(target, "done", result_bytes=0),)))

    for number in (0, 1, 0, 1, 0):
        paint(number)

    assert done == ["a.jpg", "b.jpg", "c.jpg"]
    assert runs[0].totals == {"colorized": 2, "done before": 1}
    assert runs[1].totals == {"colorized": 1, "done before": 2}


def test_a_round_of_overwriting_goes_on_after_a_stop_and_a_finished_one_does_not(tmp_path):
    rounds = []
    for settings, finished in (("{}", False), ("{}", True), ("{}", False), ('{"steps": 1}', False)):
        journal = Journal(str(tmp_path), settings, overwrite=True)
        rounds.append(journal.round)
        if finished:
            journal.finish()
        journal.close()

    assert rounds[0] == rounds[1] < rounds[2] < rounds[3]


def test_a_file_that_is_no_journal_is_named(tmp_path, album):
    (tmp_path / "out" / ".colorize").mkdir(parents=True)
    (tmp_path / "out" / ".colorize" / "journal.sqlite").write_bytes(b"something else" * 100)

    result = invoke(album, "-o", tmp_path / "out")

    assert result.exit_code == 1 and "journal.sqlite cannot be used" in result.output, result.output


# Unfinished files


def test_unfinished_files_of_the_dead_are_removed_and_those_of_the_living_are_not(tmp_path):
    dead = tmp_path / ".colorize" / ("0" * 32)
    dead.mkdir(parents=True)
    (dead / "result.png").touch()
    (dead / "lock").touch()

    with unfinished_folder(str(tmp_path)) as folder:
        removed = remove_unfinished([str(tmp_path)])

        assert removed == 1 and not dead.exists() and os.path.isdir(folder)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_process_ends_with_it_however_it_ends(tmp_path):
    code = (
        f"from colorize_pipeline.apps.workplace import hold; lock = hold({str(tmp_path / 'lock')!r}); print(); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.read(1)
        assert hold(str(tmp_path / "lock")) is None

        process.kill()
        process.wait()

        assert hold(str(tmp_path / "lock")) is not None


def test_a_result_is_put_in_place_of_nothing_but_its_equal(tmp_path):
    for name, content in (("unfinished", "new"), ("equal", "new"), ("other", "old")):
        (tmp_path / name).write_text(content)

    placed = {
        name: put_in_place(str(tmp_path / "unfinished"), str(tmp_path / name), False) for name in ("equal", "other")
    }

    assert placed == {"equal": True, "other": False} and (tmp_path / "other").read_text() == "old"
    assert put_in_place(str(tmp_path / "unfinished"), str(tmp_path / "other"), True)
    assert (tmp_path / "other").read_text() == "new"
