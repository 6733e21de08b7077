"""The page: its server over the network, and all of it in a real browser."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from web_client import WebClient

from colorize_pipeline.apps import cli
from colorize_pipeline.apps.gray import judge, luma_of
from colorize_pipeline.apps.provenance import read_record
from colorize_pipeline.apps.reading import read_photo


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
needs_gradio = pytest.mark.skipif(not find_spec("gradio"), reason="Gradio is not installed: pip install -e '.[web]'")
needs_browser = pytest.mark.skipif(
    not (find_spec("gradio") and find_spec("playwright") and CHROMIUM),
    reason="needs Gradio, playwright and Debian's chromium",
)


@pytest.fixture(scope="module")
def server(model_folder, tmp_path_factory):
    """The command itself: its process, its address and its temporary folder."""
    temporary = tmp_path_factory.mktemp("temporary")
    (temporary / "colorize-web-killed" / "sessions").mkdir(parents=True)  # what a server left that was killed
    command = ["-c", "from colorize_pipeline.apps.web.command import main; main()", "--model", model_folder]
    command += ["--device", "cpu", "--dtype", "float32"]
    process = subprocess.Popen(
        [sys.executable, *command, "--port", "0", "--queue", "2", "--workers", "1", "--max-upload", "1"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    address = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    assert address, process.poll()
    yield process, address[0], temporary
    process.kill()
    process.wait()


@needs_gradio
def test_the_server_gives_nothing_but_the_page(server, jpeg):
    _, address, temporary = server
    client = WebClient(address)
    _, path = client.upload(jpeg, ".jpg")
    (folder,) = (folder for folder in temporary.iterdir() if folder.name != "colorize-web-killed")
    answers = {
        probe: client.request("GET", probe)[0]
        for probe in (
            "/gradio_api/file=/etc/passwd", "/gradio_api/file=/proc/self/environ", f"/gradio_api/file={__file__}",
            f"/gradio_api/file={path}", f"/gradio_api/file={folder}/sessions/../uploads", "/gradio_api/file=http://127.0.0.1/",
            f"/gradio_api/file={folder}/sessions", f"/gradio_api/file={folder}/lock", "/gradio_api/file/etc/passwd",
            "/gradio_api/proxy=http://127.0.0.1/", "/static/../../config.py", "/assets/%2e%2e/%2e%2e/config.py",
            "/gradio_api/runs", "/monitoring", "/gradio_api/openapi.json", "/gradio_api/mcp/", "/docs", "/login",
            "/gradio_api/stream/x/1/1/playlist.m3u8", "/gradio_api/deep_link", "/gradio_api/custom_component/a/b/c/d",
        )
    }  # fmt: skip

    assert set(answers.values()) <= {403, 404}, answers
    assert client.request("POST", "/gradio_api/component_server", b"{}")[0] == 403
    assert client.request("GET", "/", headers={"Host": "evil.example"})[0] == 403
    assert client.request("POST", "/gradio_api/upload", b"", {"Origin": "http://evil.example"})[0] == 403
    assert client.request("GET", "/")[0] == 200
    assert client.upload(bytes(1_100_000), ".png")[0] == 413
    assert not (temporary / "colorize-web-killed").exists()


@needs_gradio
def test_a_full_queue_answers_503_and_everybody_else_gets_his_own_photo(server):
    clients = [WebClient(server[1]) for _ in range(10)]
    photos = [np.full((24, 32), 20 * number, np.uint8) for number in range(10)]
    paths = []
    for client, pixels in zip(clients, photos, strict=True):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        paths.append(client.upload(stream.getvalue(), ".png")[1])

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda client, path: client.ask("paint", kind="open", path=path), clients, paths))

    served = [number for number, (status, _) in enumerate(answers) if status == 200]
    assert {status for status, _ in answers} == {200, 503} and len(served) >= 2
    for number in served:
        state = answers[number][1]
        gray = Image.open(io.BytesIO(clients[number].fetch(state["photo"]["view"]))).convert("L")
        assert abs(np.asarray(gray).astype(int) - 20 * number).max() <= 2 and len(state["versions"]) == 4


# The browser


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, server):
    """Opens the page, and holds it against what every visit must be: silent, and of this server alone."""
    pages, wrong = [], []

    def open_page(**options):
        page = browser.new_context(accept_downloads=True, **options).new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: wrong.append(request.url) if not _is_own(request.url, server[1]) else None)
        page.on("console", lambda message: wrong.append(message.text) if _is_error(message) else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(server[1])
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert not wrong


def _is_error(message) -> bool:
    return message.type == "error" and "503" not in message.text


def _is_own(url: str, address: str) -> bool:
    return url.startswith((f"{address}/", "data:", "blob:"))


def idle(page) -> None:
    page.wait_for_selector("#cz[aria-busy=false]")


def choose(page, data: bytes, name: str = "José 1936.jpg") -> None:
    page.set_input_files("#cz-file", {"name": name, "mimeType": "image/jpeg", "buffer": data})
    page.wait_for_selector("#cz-versions button >> nth=3")
    idle(page)


def shown(page) -> bytes:
    return page.request.get(page.evaluate("document.querySelector('#cz-after').src")).body()


def saved(page, press) -> tuple[str, bytes]:
    with page.expect_download() as waiting:
        press()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


@needs_browser
def test_a_visitor_paints_hints_undoes_and_downloads(visit, jpeg, model_folder, tmp_path):
    page = visit(viewport={"width": 1280, "height": 900})
    choose(page, jpeg)
    first = shown(page)

    page.click("#cz-versions button >> nth=1")
    second = shown(page)
    name, plain = saved(page, lambda: page.click("#cz-save"))
    idle(page)
    page.click("[data-tool=color]")
    page.fill("#cz-color", "#d02020")
    without_hint = page.evaluate("document.querySelector('#cz-after').src")
    page.click("#cz-canvas", position={"x": 200, "y": 150})
    page.wait_for_function("url => document.querySelector('#cz-after').src !== url", arg=without_hint)
    idle(page)
    hinted = shown(page)
    _, with_hint = saved(page, lambda: page.click("#cz-save"))
    idle(page)
    page.keyboard.press("Control+z")
    page.wait_for_function(
        "() => document.querySelector('#cz-undo').disabled && !document.querySelector('#cz-save').disabled"
    )
    idle(page)
    _, undone = saved(page, lambda: page.click("#cz-save"))
    idle(page)
    second_url = page.evaluate("document.querySelector('#cz-after').src")
    page.fill("#cz-saturation", "1.5")
    page.wait_for_function("url => document.querySelector('#cz-after').src !== url", arg=second_url)
    idle(page)
    _, vivid = saved(page, lambda: page.click("#cz-save"))

    (tmp_path / "photo.jpg").write_bytes(jpeg)
    options = ["--model", model_folder, "--seed", "2", "--dtype", "float32", "--device", "cpu"]
    CliRunner().invoke(cli.app, [str(tmp_path / "photo.jpg"), *options])
    (tmp_path / "hinted.png").write_bytes(with_hint)
    photo = read_photo(tmp_path / "hinted.png")
    record, verdict = judge(tmp_path / "hinted.png", photo, luma_of(photo))
    (tmp_path / "vivid.png").write_bytes(vivid)
    assert first != second and second != hinted
    assert read_record(read_photo(tmp_path / "vivid.png").xmp).settings["saturation"] == 1.5
    assert name == "José 1936.color-2.png"
    assert plain == undone == (tmp_path / "photo.color.png").read_bytes()
    assert verdict.state == "exact" and photo.dpi[0] == pytest.approx(600, abs=0.1)
    assert record.settings["hints"].startswith("1 drawn on the page") and with_hint != plain


@needs_browser
def test_a_visitor_with_a_phone_and_one_with_a_keyboard_do_it_too(visit, jpeg):
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
    choose(page, jpeg)
    before = shown(page)
    page.tap("[data-tool=color]")
    page.tap("#cz-canvas", position={"x": 100, "y": 80})
    page.wait_for_function(
        "() => !document.querySelector('#cz-undo').disabled && !document.querySelector('#cz-save').disabled"
    )
    idle(page)
    tapped = shown(page)
    page.focus("#cz-canvas")
    for key in ("ArrowLeft", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("() => !document.querySelector('#cz-save').disabled")
    idle(page)
    pressed = shown(page)
    page.evaluate("document.querySelector('#cz-more').click(); document.querySelector('#cz-cancel').click()")
    words = page.inner_text("#cz-words")
    sizes = page.evaluate(
        "[...document.querySelectorAll('#cz button, #cz select, #cz label.button')].filter(one => one.offsetHeight && "
        "!one.closest('#cz-swatches')).map(one => one.getBoundingClientRect().height)"
    )
    page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": "Queue is full."}))
    page.click("#cz-more")
    page.wait_for_selector("#cz-status.error")
    refused = page.inner_text("#cz-words")
    page.unroute("**/queue/join*")
    page.set_input_files("#cz-file", {"name": "no.jpg", "mimeType": "image/jpeg", "buffer": b"no photo at all"})
    page.wait_for_function("() => document.querySelector('#cz-words').innerText.startsWith('no.jpg: no')")

    assert "busy" in refused
    assert len({before, tapped, pressed}) == 3
    assert words == "Stopped." and page.locator("#cz-versions button").count() == 4
    assert page.inner_text("#cz-words").startswith("no.jpg: no JPEG, PNG")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert min(sizes) >= 44


@needs_gradio
def test_the_end_of_the_server_takes_all_its_files_along(server):
    process, _, temporary = server  # the last test: it stops the server of those before
    held = list(temporary.glob("colorize-web-*/sessions/*/*"))

    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == 0
    assert held and not list(temporary.iterdir())
