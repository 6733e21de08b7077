"""What a run tells at its end: a summary, and a report of the whole folder with thumbnails."""

import base64
import html
import io
import itertools
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from colorize_pipeline.apps.formats import PHOTO_FORMATS
from colorize_pipeline.apps.journal import DONE, FAILED, KEPT
from colorize_pipeline.apps.plan import Job, PassedOver, name_of
from colorize_pipeline.apps.workplace import put_in_place, unfinished_folder


# So many names are said for each reason; a dry run says all.
_NAMES = 3
_PER_PAGE = 1000
_THUMBNAIL_SIDE = 160

_PAGE = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 14px sans-serif; margin: 2em; background: #fff; color: #222 }}
figure {{ display: inline-block; width: 336px; margin: 0 1em 1em 0; vertical-align: top; overflow-wrap: anywhere }}
img {{ max-width: 336px; background: #eee }}
figcaption {{ font-size: 12px; color: #555 }}
.failed {{ color: #a00 }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
<p>{pages}</p>
{body}
</html>
"""


def summary(totals: Counter, passed_over: list[PassedOver]) -> list[str]:
    """
    Say what has become of all that was planned, in a few lines.

    Args:
        totals (`Counter`): Numbers of photos by what has become of them.
        passed_over (`list` of `PassedOver`): What was found and not planned.
    """
    names = [*("colorized", "kept", "failed"), *sorted(totals.keys() - {"colorized", "kept", "failed"})]
    lines = [", ".join(f"{totals[name]} {name}" for name in names)]
    reasons = defaultdict(list)
    for entry in passed_over:
        reasons[entry.reason].append(entry.path)
    for reason, paths in reasons.items():
        more = f" and {len(paths) - _NAMES} more (--dry-run names them)" if len(paths) > _NAMES else ""
        lines.append(f"{len(paths)} passed over, {reason}: {', '.join(paths[:_NAMES])}{more}")
    return lines


def estimate(jobs: list[Job], seconds_of_work: float, workers: int, is_guess: bool) -> str:
    """
    Say how much is to be done, and how long it takes.

    Args:
        jobs (`list` of `Job`): What is to be painted.
        seconds_of_work (`float`): For one photo.
        workers (`int`): How many work at the same time.
        is_guess (`bool`): Whether no photo of this folder has been timed yet.
    """
    seconds = len(jobs) * seconds_of_work / workers
    hours, minutes = divmod(round(seconds / 60), 60)
    time = f"about {hours} h {minutes} min" if hours else f"about {minutes} min" if minutes else "less than a minute"
    known = "a guess until some are done" if is_guess else "as those before took"
    megabytes = sum({job.source: job.size for job in jobs}.values()) / 1e6  # of several pages one file
    return f"{len(jobs)} photos to colorize, {megabytes:.1f} MB; {time} with {workers} at a time ({known})"


def write_report(path: str, rows: Iterable[dict], passed_over: list[PassedOver], lines: list[str]) -> list[str]:
    """
    Write pages of a thousand results each, which need no other file: report.html, report-2.html, ...

    Args:
        path (`str`): Of the first page.
        rows (iterable of `dict`): The results, as [`Journal.rows`] gives them.
        passed_over (`list` of `PassedOver`): What was found and not planned; told after the results.
        lines (`list` of `str`): The summary.

    Returns:
        `list` of `str`: The pages.

    Raises:
        `OSError`: if the disk does not take them.
    """
    stem, suffix = os.path.splitext(path)
    figures = itertools.chain(map(_figure, rows), map(_line, passed_over))
    pages = []
    for body, is_last in _pages(figures):
        pages.append(path if not pages else f"{stem}-{len(pages) + 1}{suffix}")
        links = [*([pages[-2]] if len(pages) > 1 else []), *([] if is_last else [f"{stem}-{len(pages) + 1}{suffix}"])]
        page = _PAGE.format(
            title=f"Colorized photos, page {len(pages)}",
            summary="<br>".join(map(_escape, lines)),
            pages=" | ".join(
                f'<a href="{_escape(os.path.basename(link))}">{_escape(os.path.basename(link))}</a>' for link in links
            ),
            body="\n".join(body),
        )
        with unfinished_folder(os.path.dirname(path) or ".") as folder:
            unfinished = os.path.join(folder, "page.html")
            with open(unfinished, "w", encoding="utf-8") as file:
                file.write(page)
            put_in_place(unfinished, pages[-1], overwrite=True)
    return pages


def _pages(figures: Iterator[str]) -> Iterator[tuple[list[str], bool]]:
    body = list(itertools.islice(figures, _PER_PAGE))
    while True:
        following = list(itertools.islice(figures, _PER_PAGE))
        yield body, not following
        if not following:
            return
        body = following


def _figure(row: dict) -> str:
    source = name_of(row["source"], None if row["page"] is None else row["page"] - 1)
    caption = [f"<b>{_escape(os.path.basename(row['target']))}</b>", f"of {_escape(source)}"]
    picture = ""
    if row["state"] == FAILED:
        caption.append(f'<span class="failed">not colorized: {_escape(row["reason"])}</span>')
    elif row["state"] in (DONE, KEPT):
        picture = _thumbnail(row["target"])
        if row["state"] == KEPT:
            caption.append("kept as it was")
        elif row["seconds"] is not None:
            caption.append(f"seed {row['seed']}, {row['seconds']:.1f} s")
        caption += map(_escape, json.loads(row["notes"]))
    else:
        caption.append("not finished")
    return f"<figure>{picture}<figcaption>{'<br>'.join(caption)}</figcaption></figure>"


def _line(entry: PassedOver) -> str:
    return f"<div>{_escape(entry.path)}: passed over: {_escape(entry.reason)}</div>"


def _thumbnail(path: str) -> str:
    """The gray and the color of a result side by side, inside the page."""
    from PIL import Image

    from colorize_pipeline.apps.photo import PHOTO_ERRORS

    try:
        with Image.open(path, formats=PHOTO_FORMATS) as file:
            file.draft("RGB", (2 * _THUMBNAIL_SIDE, 2 * _THUMBNAIL_SIDE))
            file.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
            color = file.convert("RGB")
    except PHOTO_ERRORS as error:
        return f'<span class="failed">no picture: {_escape(str(error))}</span>'
    pair = Image.new("RGB", (2 * color.width + 8, color.height), "white")
    pair.paste(color.convert("L"), (0, 0))
    pair.paste(color, (color.width + 8, 0))
    jpeg = io.BytesIO()
    pair.save(jpeg, "JPEG", quality=80)
    return f'<img alt="gray and color" src="data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}">'


def _escape(text: str) -> str:
    return html.escape(os.fsencode(text).decode(errors="replace"))
