"""Pictures of many photos on one page: a row for each photo, a column for each way of painting it."""

from PIL import Image, ImageDraw, ImageFont


_MARGIN = 6
_HEADER = 22


def contact_sheet(rows: list[list[Image.Image]], titles: list[str], cell: int = 160, blocks: int = 1) -> Image.Image:
    """
    Lay out photos in a table.

    Args:
        rows (`list` of `list` of `PIL.Image.Image`): Each row holds one picture per title.
        titles (`list` of `str`): Heads of the columns.
        cell (`int`, *optional*, defaults to 160): Longest side of a picture in pixels.
        blocks (`int`, *optional*, defaults to 1): Tables side by side, to fill a wide page.

    Returns:
        `PIL.Image.Image` in mode RGB.
    """
    per_block = -(-len(rows) // blocks)
    step = cell + _MARGIN
    size = (blocks * len(titles) * step + _MARGIN, _HEADER + per_block * step + _MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for block in range(blocks):
        for column, title in enumerate(titles):
            draw.text((_MARGIN + (block * len(titles) + column) * step, 5), title, "black", font)
    for number, row in enumerate(rows):
        block, line = divmod(number, per_block)
        for column, picture in enumerate(row):
            thumbnail = picture.convert("RGB")
            thumbnail.thumbnail((cell, cell), Image.Resampling.LANCZOS)
            left = _MARGIN + (block * len(titles) + column) * step + (cell - thumbnail.width) // 2
            sheet.paste(thumbnail, (left, _HEADER + line * step + (cell - thumbnail.height) // 2))
    return sheet
