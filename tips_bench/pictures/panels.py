"""What a model sees: image | truth | prediction | principal components of its features, with a legend.

The three first principal components of the patch features become red, green and blue. One basis serves all pictures of a run, so a
color means the same in each; its signs are fixed, so a run draws the same picture again. Ids beyond the palette are ignored pixels.

Axes: H W pixels, h w token grid, D feature, N patches of all pictures; the axis of 3 is RGB.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tips_bench.files import atomic
from tips_bench.terminal import printable

TILE = 300  # side of the box that each of the four pictures fits in
GAP = 8
CAPTION = 24
SHEET = 4 * TILE + 5 * GAP  # width of a row
LINE = 20
LEGEND_LINES = 4
NAME_LENGTH = 28
PAPER, INK, FAINT = (255, 255, 255), (32, 32, 32), (120, 120, 120)
IGNORED = (224, 224, 192)  # the color of the void border in the masks of PASCAL VOC
CLIPPED = (2.0, 98.0)  # percentiles of a component that become black and full color


@dataclass(frozen=True)
class PcaBasis:
    """mean_D and components_D3 project features; low_3 and high_3 become 0 and 255."""

    mean_D: np.ndarray
    components_D3: np.ndarray
    low_3: np.ndarray
    high_3: np.ndarray

    def colors(self, features_hwD: np.ndarray) -> np.ndarray:
        """[h,w,3] uint8; a component that does not vary is mid-grey."""
        projected_hw3 = (features_hwD.astype(np.float64) - self.mean_D) @ self.components_D3
        span_3 = self.high_3 - self.low_3
        varies_3 = span_3 > 1e-9 * max(1.0, float(np.abs(self.mean_D).max()))
        scaled_hw3 = np.where(varies_3, (projected_hw3 - self.low_3) / np.where(varies_3, span_3, 1.0), 0.5)
        return np.round(255 * scaled_hw3.clip(0, 1)).astype(np.uint8)


def pca_basis(features: Sequence[np.ndarray]) -> PcaBasis:
    """The basis for the pictures of a run, from the [h,w,D] features of all of them.

    The sign of a component is that which makes its entry of the greatest magnitude positive. Fewer than three dimensions or patches:
    the missing components do not vary.
    """
    from sklearn.decomposition import PCA

    features_ND = np.concatenate([features_hwD.reshape(-1, features_hwD.shape[-1]) for features_hwD in features]).astype(np.float64)
    mean_D = features_ND.mean(axis=0)
    centered_ND = features_ND - mean_D  # PCA would take the mean off the covariance, where most of it cancels
    components_D3 = np.zeros((len(mean_D), 3))
    if len(features_ND) > 1:
        with np.errstate(invalid="ignore"):  # shares of a variance that is zero
            found_kD = PCA(min(3, *features_ND.shape), svd_solver="covariance_eigh").fit(centered_ND).components_
        signs_k = np.sign(found_kD[np.arange(len(found_kD)), np.abs(found_kD).argmax(axis=1)])
        components_D3[:, : len(found_kD)] = (found_kD * signs_k[:, None]).T
    low_3, high_3 = np.percentile(centered_ND @ components_D3, CLIPPED, axis=0)
    return PcaBasis(mean_D, components_D3, low_3, high_3)


def panel(
    image_HW3: np.ndarray,
    truth_HW: np.ndarray,
    prediction_HW: np.ndarray,
    features_hwD: np.ndarray,
    *,
    palette: Sequence[tuple[int, int, int]],
    classes: Sequence[str],
    basis: PcaBasis,
) -> np.ndarray:
    """One sample as a row of four captioned pictures over a legend of its classes, most frequent in the truth first; uint8 RGB."""
    scored_HW = truth_HW < len(palette)
    right = f", {100 * np.mean(prediction_HW[scored_HW] == truth_HW[scored_HW]):.0f} % right" if scored_HW.any() else ""
    legend = _legend(truth_HW, prediction_HW, palette, classes)
    places = _flow([font().getlength(name) for _, name in legend], SHEET)
    if len(places) < len(legend):
        legend[len(places) - 1] = (None, f"and {len(legend) - len(places) + 1} more")
    lines = 1 + max((line for _, line in places), default=0)
    sheet = tile_row(
        [
            ("image", image_HW3, True),
            ("truth", colorize(truth_HW, palette), False),
            (f"prediction{right}", colorize(prediction_HW, palette), False),
            ("PCA of features", basis.colors(features_hwD), False),
        ],
        lines * LINE + GAP,
    )
    draw, height = ImageDraw.Draw(sheet), sheet.height - CAPTION - 2 * GAP - lines * LINE
    for (color, name), (left, line) in zip(legend, places, strict=False):
        middle = CAPTION + height + GAP + line * LINE + LINE // 2
        if color is not None:
            draw.rectangle((left, middle - 6, left + 12, middle + 6), color, FAINT)
        draw.text((left + 18, middle), name, INK, font(), anchor="lm")
    return np.asarray(sheet)


def tile_row(tiles: Sequence[tuple[str, np.ndarray, bool]], below: int) -> Image.Image:
    """Up to four captioned pictures, each (caption, uint8 RGB, whether to smooth it), in the aspect of the first.

    below: height of the paper that is left under them, in pixels.
    """
    width, height = fitted(tiles[0][1].shape[1], tiles[0][1].shape[0])
    sheet = Image.new("RGB", (SHEET, CAPTION + height + GAP + below), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, (caption, pixels_HW3, smooth) in enumerate(tiles):
        left = GAP + column * (TILE + GAP) + (TILE - width) // 2
        draw.text((left + width // 2, CAPTION // 2), caption, INK, font(), anchor="mm")
        resampling = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
        sheet.paste(Image.fromarray(pixels_HW3).resize((width, height), resampling), (left, CAPTION))
        draw.rectangle((left - 1, CAPTION - 1, left + width, CAPTION + height), outline=FAINT)
    return sheet


def contact_sheet(panels: Sequence[np.ndarray]) -> np.ndarray:
    """The panels one below the other, uint8 RGB."""
    height = sum(panel_HW3.shape[0] for panel_HW3 in panels) + GAP * (len(panels) + 1)
    sheet_HW3 = np.full((height, max(panel_HW3.shape[1] for panel_HW3 in panels), 3), PAPER, dtype=np.uint8)
    top = GAP
    for panel_HW3 in panels:
        sheet_HW3[top : top + panel_HW3.shape[0], : panel_HW3.shape[1]] = panel_HW3
        top += panel_HW3.shape[0] + GAP
    return sheet_HW3


def save_png(image_HW3: np.ndarray, path: Path) -> None:
    """Write uint8 RGB as a PNG, atomically; the same picture gives the same bytes."""
    with atomic(path) as temporary:
        Image.fromarray(image_HW3).save(temporary, format="PNG")


def colorize(labels_HW: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Class ids as uint8 RGB; ids beyond the palette get the color of ignored pixels."""
    colors = np.array([*palette, IGNORED], dtype=np.uint8)
    return colors[np.minimum(labels_HW.astype(np.int64), len(palette))]


def fitted(width: int, height: int) -> tuple[int, int]:
    """The greatest size of this aspect inside a tile, at least one pixel each way."""
    scale = TILE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _legend(
    truth_HW: np.ndarray, prediction_HW: np.ndarray, palette: Sequence[tuple[int, int, int]], classes: Sequence[str]
) -> list[tuple[tuple[int, int, int] | None, str]]:
    """(color, name) of the classes in either map."""
    in_truth, in_prediction = (np.bincount(labels_HW.ravel(), minlength=len(palette)) for labels_HW in (truth_HW, prediction_HW))
    known = range(len(palette))
    present = sorted((id for id in known if in_truth[id] or in_prediction[id]), key=lambda id: (-in_truth[id], -in_prediction[id], id))
    legend: list[tuple[tuple[int, int, int] | None, str]] = [(palette[id], _short(classes[id])) for id in present]
    return [*legend, (IGNORED, "ignored")] if in_truth[len(palette) :].any() else legend


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"


def _flow(widths: Sequence[float], sheet_width: int) -> list[tuple[int, int]]:
    """(left, line) of each legend entry, as words flow; entries beyond the last line are left out."""
    places: list[tuple[int, int]] = []
    left, line = GAP, 0
    for width in widths:
        step = 18 + int(width) + 2 * GAP
        if left > GAP and left + step > sheet_width:
            left, line = GAP, line + 1
        if line == LEGEND_LINES:
            break
        places.append((left, line))
        left += step
    return places


@cache
def font() -> ImageFont.FreeTypeFont:
    """The typeface that matplotlib carries, so that a picture looks the same on every machine."""
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 13)
