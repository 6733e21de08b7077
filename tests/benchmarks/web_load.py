"""
Many visitors of the page at once: only 200 and 503, everybody gets his own photo, and the memory does not grow.

    python tests/benchmarks/web_load.py --clients 50 --photos 5

Starts `colorize-web` as a process of its own. First a visitor who is alone sends a JPEG of 12 megapixels, and another
does, and it is told how long they wait. Then each visitor sends photos that nobody else has, asks again a second after
each 503, downloads one version of each, and holds its gray, code for code, against what it sent.
"""

import argparse
import io
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image


sys.path.insert(0, str(Path(__file__).parents[1]))
from web_client import WebClient  # noqa: E402


class Load:
    """What all visitors together have seen."""

    def __init__(self, process: subprocess.Popen, address: str, size: tuple[int, int]):
        self.process, self.address, self.size = process, address, size
        self.statuses, self.wrong, self.seconds, self.memory = Counter(), [], [], []
        self.lock = threading.Lock()

    def visit(self, number: int, num_photos: int) -> None:
        client = WebClient(self.address)
        for photo in range(num_photos):
            pixels = np.random.default_rng(1000 * number + photo).integers(0, 256, self.size[::-1], np.uint8)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
            start = time.monotonic()
            state = self.insist(client, "paint", stream.getvalue())
            took = time.monotonic() - start
            state = self.insist(client, "save", format="png", name=f"{number}-{photo}") if state else None
            result = io.BytesIO(client.fetch(state["result"])) if state and state["result"] else None
            right = result is not None and (np.asarray(Image.open(result).convert("L")) == pixels).all()
            with self.lock:
                self.seconds.append(took)
                self.memory.append(resident_megabytes(self.process.pid))
                if not right:
                    self.wrong.append((number, photo, state and state["error"]))

    def insist(self, client: WebClient, event: str, data: bytes = b"", **more) -> dict | None:
        while True:
            if data:  # a photo that was refused is sent again: its file waits here for minutes only
                status, path = client.upload(data, ".png")
                self.count(status)
                more |= {"kind": "open", "path": path}
            status, state = client.ask(event, **more)
            self.count(status)
            if status != 503:
                return state
            time.sleep(1)

    def count(self, status: int) -> None:
        with self.lock:
            self.statuses[status] += 1


def time_alone(address: str) -> None:
    from skimage.data import camera

    stream = io.BytesIO()
    Image.fromarray(camera()).resize((4000, 3000), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=92)
    for _ in range(2):
        client = WebClient(address)
        start = time.monotonic()
        _, path = client.upload(stream.getvalue(), ".jpg")
        sent = time.monotonic()
        client.ask("paint", kind="open", path=path)
        first, all_four = client.first_version - start, time.monotonic() - start
        print(
            f"{len(stream.getvalue()) / 1e6:.1f} MB of 12 megapixels: sent in {sent - start:.2f} s, first version"
            f" after {first:.2f} s, four after {all_four:.2f} s"
        )


def resident_megabytes(pid: int) -> float:
    """Of a process on Linux."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--photos", type=int, default=5, help="of each client")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--model", default="", help="folder of a model; without it the one that ships")
    arguments = parser.parse_args()
    command = [sys.executable, "-c", "from colorize_pipeline.apps.web.command import main; main()", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--model", arguments.model], stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    try:
        address = re.search(r"http://\S+?:\d+", process.stdout.readline())[0]
        time_alone(address)
        load = Load(process, address, tuple(arguments.size))
        start = time.monotonic()
        with ThreadPoolExecutor(arguments.clients) as pool:
            list(pool.map(load.visit, range(arguments.clients), [arguments.photos] * arguments.clients))
        seconds = time.monotonic() - start
    finally:
        process.terminate()
        code = process.wait(120)
    settled = load.memory[max(0, len(load.memory) // 10 - 1)]  # what the first photos take stays
    print(
        f"{len(load.seconds)} photos of {arguments.clients} clients in {seconds:.0f} s, statuses {dict(load.statuses)}"
    )
    print(f"wrong or missing results: {len(load.wrong)} {load.wrong[:5]}")
    print(f"seconds from sending a photo to its four versions: {np.percentile(load.seconds, [0, 50, 100]).round(1)}")
    print(f"memory: {settled:.0f} MB after a tenth of the photos, {load.memory[-1]:.0f} MB after all")
    growth = load.memory[-1] / settled - 1
    print(f"growth {100 * growth:.1f}%, exit code of the server {code}")
    if load.wrong or set(load.statuses) - {200, 503} or growth > 0.1 or code:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
