"""The page as Gradio sees it: one component with our own HTML, and the questions that it asks the studio."""

from importlib.resources import files

import gradio as gr

from colorize_pipeline.apps.web.studio import Studio


# Fonts of the visitor's own system: none is fetched.
_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]

# What is around the page's own component needs no room on a phone.
CSS = (
    ".gradio-container .main { padding: 10px !important } .gradio-container .html-container { padding: 0 !important }"
)


def build_page(studio: Studio, num_painters: int, max_queue: int) -> gr.Blocks:
    """
    Build the page.

    Args:
        studio (`Studio`): Answers.
        num_painters (`int`): Clients that are painted for at a time.
        max_queue (`int`): Questions that wait, at most; the server answers 503 to further ones.
    """

    def asked(event: gr.EventData) -> dict:
        return event._data if isinstance(event._data, dict) else {}

    def paint(event: gr.EventData, request: gr.Request):
        yield from studio.paint(request.session_hash, asked(event))

    def restyle(event: gr.EventData, request: gr.Request):
        return studio.restyle(request.session_hash, asked(event))

    def save(event: gr.EventData, request: gr.Request):
        return studio.save(request.session_hash, asked(event))

    def halt(event: gr.EventData, request: gr.Request) -> None:
        studio.halt(request.session_hash, asked(event).get("serial"))

    def leave(request: gr.Request) -> None:
        studio.leave(request.session_hash)

    folder = files("colorize_pipeline.apps.web")
    with gr.Blocks(title="Colorize", analytics_enabled=False) as blocks:
        page = gr.HTML(
            value=None,
            html_template=folder.joinpath("page.html").read_text("utf-8"),
            css_template=folder.joinpath("page.css").read_text("utf-8"),
            js_on_load="\n".join(folder.joinpath(name).read_text("utf-8") for name in ("page.js", "canvas.js")),
            apply_default_css=False,
            elem_id="colorize",
        )
        options = {"show_progress": "hidden", "api_visibility": "private", "trigger_mode": "multiple"}
        failed = {"fn": None, "js": "() => { document.dispatchEvent(new Event('colorize-failed')); }"}
        for listen, answer, lane, at_a_time in (
            (page.paint, paint, "paint", num_painters),
            (page.restyle, restyle, "restyle", 2),
            (page.save, save, "save", 1),
        ):
            listen(
                answer, None, page, concurrency_id=lane, concurrency_limit=at_a_time, **options
            ).failure(**failed, **options)  # fmt: skip
        page.halt(halt, None, None, queue=False, **options)
        blocks.unload(leave)
    blocks.queue(max_size=max_queue)
    return blocks


def theme() -> gr.Theme:
    return gr.themes.Base(font=_FONTS, font_mono=["ui-monospace", "monospace"])
