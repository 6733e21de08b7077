"""Pushes that are killed, raced, repeated, private or refused, with real clients against a server on the loopback."""

import json
import shutil
import signal

import pytest
from conftest import EVALUATIONS, ROOT
from hub_client import contents, push_script, run, start
from loopback_hub import File

from colorize_pipeline import DEFAULT_CHECKPOINT
from colorize_pipeline.hub import stage_model_repository


@pytest.mark.parametrize("moment", ["upload", "commit"])
def test_a_push_killed_at_any_moment_and_repeated_commits_once(hub, staged, tmp_path, moment):
    repo_id = f"ann/killed-in-{moment}"
    script = ["-c", push_script(staged, repo_id, tag="v1")]
    with hub.pause(moment) as pause:
        process = start(hub, script, tmp_path, token="ann-token")
        assert pause.reached.wait(timeout=60)
        process.kill()
        process.communicate()
        pause.cut = True
    repository = hub.repositories[f"models/{repo_id}"]
    # The two large files travel side by side: only one of them is sure to be cut.
    left = (process.returncode, len(repository.commits), len(repository.large_files) == 2, len(repository.tags))

    first, second = (json.loads(run(hub, script, tmp_path, token="ann-token")) for _ in range(2))

    assert left == (-signal.SIGKILL, *((1, False) if moment == "upload" else (2, True)), 0)
    assert repository.history() == ["initial commit", "Upload colorization pipeline"]
    assert first == second == repository.tags["v1"]
    assert repository.files() == contents(staged)


def test_a_private_push_to_a_branch_stays_there_and_stays_private(hub, staged, tmp_path):
    repo_id = "ann/secret"
    options = {"private": True, "branch": "next", "commit_message": "Try this"}

    run(hub, ["-c", push_script(staged, repo_id, **options)], tmp_path / "ann", token="ann-token")

    repository = hub.repositories[f"models/{repo_id}"]
    assert repository.private
    assert repository.history("main") == ["initial commit"] and not repository.files("main")
    assert repository.history("next") == ["initial commit", "Try this"]
    assert repository.files("next") == contents(staged)
    ask = f"""
from huggingface_hub import HfApi, errors
for token in (False, "bob-token", "ann-token"):
    for name, revision in (("pipeline.py", "next"), ("pipeline.py", "main"), ("pipeline.py", "elsewhere")):
        try:
            HfApi(token=token).hf_hub_download("{repo_id}", name, revision=revision)
            print("found", end=" ")
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
            print(type(error).__name__, end=" ")"""
    seen = run(hub, ["-c", ask], tmp_path / "others").split()
    assert seen[:6] == ["RepositoryNotFoundError"] * 6
    assert seen[6:] == ["found", "RemoteEntryNotFoundError", "RevisionNotFoundError"]


def test_a_push_that_would_mislead_is_refused(hub, staged, tmp_path):
    repo_id = "ann/public"
    run(hub, ["-c", push_script(staged, repo_id, tag="v1")], tmp_path, token="ann-token")
    changed = shutil.copytree(staged, tmp_path / "changed")
    (changed / "evaluation.json").write_text("[]")

    def errors(folder, **options):
        process = start(hub, ["-c", push_script(folder, repo_id, **options)], tmp_path, token="ann-token")
        return process.communicate()[1]

    assert "`private` is True, but ann/public exists and is public" in errors(staged, private=True)
    assert "`tag` 'v1' names commit" in errors(changed, tag="v1")


def test_a_commit_by_somebody_else_during_the_upload_is_not_overwritten(hub, staged, tmp_path):
    repo_id = "ann/busy"
    theirs = {"README.md": File(b"written meanwhile", large=False)}

    with hub.pause("upload") as pause:
        process = start(hub, ["-c", push_script(staged, repo_id)], tmp_path, token="ann-token")
        assert pause.reached.wait(timeout=60)
        repository = hub.repositories[f"models/{repo_id}"]
        repository.commit("main", "theirs", theirs)
    _, errors = process.communicate()

    assert process.returncode != 0 and "412" in errors
    assert repository.files() == {"README.md": b"written meanwhile"}


def test_a_card_on_the_hub_is_replaced_only_when_asked(hub, staged, tmp_path):
    repo_id = "ann/edited"
    run(hub, ["-c", push_script(staged, repo_id)], tmp_path, token="ann-token")
    repository = hub.repositories[f"models/{repo_id}"]
    repository.commit("main", "edit", {**repository.at().files, "README.md": File(b"# By hand", large=False)})

    run(hub, ["-c", push_script(staged, repo_id)], tmp_path, token="ann-token")
    kept = repository.files()["README.md"]
    run(hub, ["-c", push_script(staged, repo_id, overwrite_card=True)], tmp_path, token="ann-token")

    assert kept == b"# By hand"
    assert repository.files() == contents(staged)


@pytest.mark.slow
def test_the_push_of_the_default_checkpoint_survives_kills(hub, tmp_path):
    staged, repo_id = tmp_path / "staged", "ann/default"
    stage_model_repository(
        DEFAULT_CHECKPOINT, staged, repo_id=repo_id, card_template=ROOT / "model_card.md", evaluations=EVALUATIONS
    )
    script = ["-c", push_script(staged, repo_id)]

    for moment in ("upload", "commit"):
        with hub.pause(moment) as pause:
            process = start(hub, script, tmp_path / "home", token="ann-token")
            assert pause.reached.wait(timeout=120)
            process.kill()
            process.communicate()
            pause.cut = True
    first, second = (json.loads(run(hub, script, tmp_path / "home", token="ann-token")) for _ in range(2))

    repository = hub.repositories[f"models/{repo_id}"]
    assert repository.history() == ["initial commit", "Upload colorization pipeline"]
    assert first == second
    assert repository.files() == contents(staged)
