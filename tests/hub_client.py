"""Client processes of the Hub that know nothing but its address."""

import json
import subprocess
import sys


# What scripts of the tests share: a digest of the weights, and of the pixels painted with fixed noise.
DIGEST = """
import hashlib, json, numpy, torch
from PIL import Image
def digest(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    gray = Image.fromarray((numpy.arange(40 * 60).reshape(40, 60) % 251).astype(numpy.uint8))
    pixels = pipeline(gray, generator=torch.Generator().manual_seed(7)).images[0].tobytes()
    weights = [value.float().numpy().tobytes() for _, value in sorted(pipeline.unet.state_dict().items())]
    return [hashlib.sha256(content).hexdigest() for content in (b"".join(weights), pixels)]
def refused(load):
    try:
        load()
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"
"""


def start(hub, arguments, home, token=None, python=sys.executable, **variables):
    """Start a client process that knows nothing but the Hub's address and its own empty folder."""
    home.mkdir(exist_ok=True)
    environment = hub.environment(home / "hf", token) | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.Popen(
        [str(python), *map(str, arguments)],
        cwd=home, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(*arguments, **options):
    process = start(*arguments, **options)
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return output


def run_script(hub, script, home, **options):
    """Run Python code whose last line of output is JSON."""
    return json.loads(run(hub, ["-c", DIGEST + script], home, **options).splitlines()[-1])


def push_script(folder, repo_id, **options):
    """Python code that imports no torch and pushes a staged folder."""
    return (
        "import json\nfrom colorize_pipeline.hub import push_to_hub\n"
        f"print(json.dumps(push_to_hub({str(folder)!r}, {repo_id!r}, **{options!r}).oid))"
    )


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
