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
from conftest import make_pipeline
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
def model_folder(tmp_path_factory):
    """A tiny model that takes references, with enough steps to be stopped among them."""
    folder = tmp_path_factory.mktemp("model")
    pipeline = make_pipeline(with_encoder=True)
    pipeline.register_to_config(default_num_inference_steps=12)
    pipeline.save_pretrained(folder)
    return str(folder)


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


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def on_photo(page, x: float, y: float) -> tuple[float, float]:
    box = page.locator("#cz-canvas").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def painted(page, act) -> None:
    """Do something for which the version is painted anew, and wait for it."""
    before = page.get_attribute("#cz-after", "src")
    act()
    page.wait_for_function("url => document.querySelector('#cz-after').getAttribute('src') !== url", arg=before)
    page.wait_for_selector("#cz-save:enabled")
    idle(page)


def by_command_line(folder: Path, data: bytes, model_folder: str, *more: str) -> bytes:
    (folder / "photo.jpg").write_bytes(data)
    options = ["--model", model_folder, "--dtype", "float32", "--device", "cpu", "--overwrite", *more]
    result = CliRunner().invoke(cli.app, [str(folder / "photo.jpg"), *options])
    assert result.exit_code == 0, result.output
    return (folder / "photo.color.png").read_bytes()


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
    painted(page, lambda: page.mouse.click(*on_photo(page, 0.2, 0.3)))
    hinted = shown(page)
    told = page.inner_text("#cz-notes")
    _, with_hint = saved(page, lambda: page.click("#cz-save"))
    idle(page)
    painted(page, lambda: page.keyboard.press("Control+z"))
    _, undone = saved(page, lambda: page.click("#cz-save"))
    idle(page)
    painted(page, lambda: page.fill("#cz-saturation", "1.5"))
    _, vivid = saved(page, lambda: page.click("#cz-save"))

    (tmp_path / "hinted.png").write_bytes(with_hint)
    photo = read_photo(tmp_path / "hinted.png")
    record, verdict = judge(tmp_path / "hinted.png", photo, luma_of(photo))
    assert first != second and second != hinted
    assert name == "José 1936.color-2.png" and page.is_disabled("#cz-undo")
    assert plain == undone == by_command_line(tmp_path, jpeg, model_folder, "--seed", "2")
    assert vivid == by_command_line(tmp_path, jpeg, model_folder, "--seed", "2", "--saturation", "1.5")
    assert verdict.state == "exact" and photo.dpi[0] == pytest.approx(600, abs=0.1)
    assert record.settings["hints"].startswith("1 drawn on the page") and with_hint != plain
    assert "possible is #" in told and not page.inner_text("#cz-notes")


@needs_browser
def test_a_visitor_picks_brushes_an_area_takes_a_reference_and_looks_at_doubt(visit, jpeg, tmp_path):
    from skimage.data import astronaut

    stream = io.BytesIO()
    Image.fromarray(astronaut()).resize((96, 96)).save(stream, "PNG")
    page = visit(viewport={"width": 1280, "height": 900})
    choose(page, jpeg)

    page.click("[data-tool=pick]")
    page.mouse.click(*on_photo(page, 0.5, 0.5))
    picked = page.input_value("#cz-color")
    there = pixels_of(shown(page))[45, 30]
    _, plain = saved(page, lambda: page.click("#cz-save"))
    idle(page)

    def brush():
        page.click("[data-tool=area]")
        page.fill("#cz-size", "12")
        page.mouse.move(*on_photo(page, 0.1, 0.3))
        page.mouse.down()
        page.mouse.move(*on_photo(page, 0.3, 0.3), steps=4)
        page.mouse.up()

    def dot():
        page.click("[data-tool=color]")
        page.fill("#cz-color", "#d02020")
        page.mouse.click(*on_photo(page, 0.2, 0.3))

    painted(page, brush)
    painted(page, dot)
    _, in_part = saved(page, lambda: page.click("#cz-save"))
    idle(page)
    image = {"name": "other.png", "mimeType": "image/png", "buffer": stream.getvalue()}
    painted(page, lambda: page.set_input_files("#cz-reference-file", image))
    page.click("#cz-reference-view", position={"x": 5, "y": 5})
    from_reference = page.input_value("#cz-color")
    _, referred = saved(page, lambda: page.click("#cz-save"))
    idle(page)
    page.check("#cz-show-doubt")
    page.wait_for_selector("#cz-doubt:visible")
    legend = page.inner_text("#cz-legend")
    idle(page)
    page.set_input_files("#cz-file", {"name": "no.jpg", "mimeType": "image/jpeg", "buffer": b"no photo at all"})
    page.wait_for_function("() => document.querySelector('#cz-words').innerText.startsWith('no.jpg: no JPEG, PNG')")
    kept = page.is_enabled("#cz-undo") and page.is_enabled("#cz-save")

    (tmp_path / "referred.png").write_bytes(referred)
    changed = (pixels_of(in_part) != pixels_of(plain)).any(axis=2)
    assert np.abs(np.array([int(picked[at : at + 2], 16) for at in (1, 3, 5)]) - there).max() <= 4
    assert changed[:, :40].mean() > 0.05 and not changed[:, 40:].any() and not changed[36:].any()
    assert from_reference not in ("#d02020", picked)
    assert read_record(read_photo(tmp_path / "referred.png").xmp).settings["reference_image"].startswith("sha256:")
    assert "a guess 20+" in legend and "dE00" in legend
    assert kept  # a photo that cannot be read leaves the one that is there as it was


@needs_browser
def test_a_keyboard_is_enough(visit, jpeg, model_folder, tmp_path):
    page = visit(viewport={"width": 1280, "height": 900})

    def go_to(selector: str, key: str = "Tab") -> None:
        for _ in range(60):
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press(key)
        raise AssertionError(f"{selector} is not reached by {key}")

    choosers = []
    page.on("filechooser", lambda chooser: choosers.append(chooser))
    page.wait_for_selector("#cz-drop")
    for _ in range(20):  # a page that is still being set up may lose the focus
        go_to("#cz-file")
        page.keyboard.press("Enter")
        page.wait_for_timeout(500)
        if choosers:
            break
    choosers[0].set_files({"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": jpeg})
    page.wait_for_selector("#cz-versions button >> nth=3")
    idle(page)
    go_to("#cz-versions button:nth-child(2)")
    page.keyboard.press("Enter")
    go_to("[data-tool=color]")
    page.keyboard.press("Enter")
    go_to("#cz-canvas", "Shift+Tab")
    page.keyboard.press("ArrowLeft")
    painted(page, lambda: page.keyboard.press("Enter"))
    painted(page, lambda: page.keyboard.press("Control+z"))
    go_to("#cz-save")
    _, result = saved(page, lambda: page.keyboard.press("Enter"))

    assert result == by_command_line(tmp_path, jpeg, model_folder, "--seed", "2")


@needs_browser
def test_a_phone_is_enough_too_and_who_stops_or_is_refused_is_told(visit, jpeg):
    page = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2)
    page.wait_for_selector("#cz-drop")
    widths = [page.evaluate("document.documentElement.scrollWidth")]
    choose(page, jpeg)
    before = shown(page)
    page.tap("[data-tool=color]")
    painted(page, lambda: page.tap("#cz-canvas", position={"x": 100, "y": 80}))
    tapped = shown(page)
    widths.append(page.evaluate("document.documentElement.scrollWidth"))
    page.evaluate("document.querySelector('#cz-more').click(); document.querySelector('#cz-cancel').click()")
    words = page.inner_text("#cz-words")
    sizes = page.evaluate(
        "[...document.querySelectorAll('#cz button, #cz select, #cz label.button')].filter(one => one.offsetHeight && "
        "!one.closest('#cz-swatches')).map(one => one.getBoundingClientRect().height)"
    )
    page.route("**/queue/join*", lambda route: route.fulfill(status=503, json={"detail": "Queue is full."}))
    page.evaluate("document.querySelector('#cz-more').click()")
    page.wait_for_selector("#cz-status.error")
    refused = page.inner_text("#cz-words")

    assert "busy" in refused and tapped != before
    assert words == "Stopped." and page.locator("#cz-versions button").count() == 4
    assert widths == [390, 390]
    assert min(sizes) >= 44


@needs_gradio
def test_the_end_of_the_server_takes_all_its_files_along(server):
    process, _, temporary = server  # the last test: it stops the server of those before
    held = list(temporary.glob("colorize-web-*/sessions/*/*"))

    process.send_signal(signal.SIGTERM)

    assert process.wait(60) == 0
    assert held and not list(temporary.iterdir())
