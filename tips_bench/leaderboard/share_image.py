"""The picture that a messenger or a social network shows beside a link to the site: its title and the order of the models.

1200 x 630 pixels, the size that Open Graph's readers crop least. The font comes with Pillow, so the same records give the same picture on
machines with the same Pillow.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from tips_bench.leaderboard.charts import Scale, ticks
from tips_bench.leaderboard.standing import Rank

SIZE = (1200, 630)
SHOWN = 7
PAPER, INK, FAINT, LINE, MARK = "#fbfbf9", "#1b1f24", "#5c6570", "#dfe2e5", "#0b6e5c"
LEFT, PLOT, RIGHT, TOP, ROW = 64, 500, 1136, 230, 46


def share_image(title: str, counts: str, ranks: Sequence[Rank]) -> bytes:
    """PNG. counts: a line below the title. ranks: the order; the first `SHOWN` are drawn with their intervals."""
    image = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIZE[0], 12), fill=MARK)
    _text(draw, (LEFT, 58), title, 52, INK, RIGHT - LEFT)
    _text(draw, (LEFT, 136), counts, 28, FAINT, RIGHT - LEFT)
    if ranks:
        _order(draw, ranks[:SHOWN])
    with io.BytesIO() as file:
        image.save(file, "PNG", optimize=True)
        return file.getvalue()


def _order(draw: ImageDraw.ImageDraw, ranks: Sequence[Rank]) -> None:
    """A row a model: its name, and its mean rank with the interval, the best at the left."""
    ends = [end for rank in ranks for end in rank.over_tasks or rank.interval]
    low, high = min(ends), max(ends)
    pad = 0.05 * (high - low) or 0.5
    x = Scale(low - pad, high + pad, PLOT, RIGHT - PLOT)
    bottom = TOP + ROW * len(ranks)
    for tick in ticks(x.low, x.high):
        draw.line((x(tick), TOP - 8, x(tick), bottom), fill=LINE, width=2)
        draw.text((x(tick), bottom + 6), f"{tick:g}", fill=FAINT, font=_font(20), anchor="ma")
    draw.text((LEFT, bottom + 6), "mean rank, 95 % interval", fill=FAINT, font=_font(20))
    for number, rank in enumerate(ranks):
        middle = TOP + ROW * number + ROW // 2 - 6
        _text(draw, (LEFT, middle - 16), f"{number + 1}  {rank.label}", 28, INK, PLOT - LEFT - 24)
        left, right = (x(end) for end in rank.over_tasks or rank.interval)
        draw.line((left, middle, right, middle), fill=MARK, width=5)
        draw.ellipse((x(rank.value) - 10, middle - 10, x(rank.value) + 10, middle + 10), fill=MARK)


def _text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, color: str, width: float) -> None:
    """One line that ends in "…" where it is wider than `width` pixels."""
    text, font = " ".join(text.split())[:200], _font(size)
    if draw.textlength(text, font=font) > width:
        while text and draw.textlength(f"{text}…", font=font) > width:
            text = text[:-1]
        text += "…"
    draw.text(at, text, fill=color, font=font)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
