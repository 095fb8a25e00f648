"""Surface materials: a texture, three linear colours, gloss and glow; and the colours of one room.

`sample` draws a material of a kind ("wood", "fabric" ...) for one instance, so that colour alone does not tell the class.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tips_bench.rooms.drawing import textures

MATTE, MIRROR, SKY, SCREEN = 0, 1, 2, 3

Rng = np.random.Generator
Rgb = tuple[float, float, float]
Rgb3 = tuple[Rgb, Rgb, Rgb]

_HUES = (
    (12, "red"), (42, "orange"), (68, "yellow"), (165, "green"), (198, "teal"), (258, "blue"), (312, "purple"), (345, "pink"), (360, "red"),
)  # fmt: skip
"""Where each hue ends, in degrees."""

_WOODS: tuple[tuple[str, Rgb], ...] = (
    ("pine", (0.84, 0.66, 0.44)), ("oak", (0.72, 0.53, 0.33)), ("walnut", (0.4, 0.27, 0.18)), ("mahogany", (0.42, 0.18, 0.11)),
    ("birch", (0.88, 0.77, 0.6)), ("wenge", (0.22, 0.16, 0.13)), ("grey oak", (0.58, 0.52, 0.46)),
)  # fmt: skip


@dataclass(frozen=True)
class Material:
    """How a surface looks. Colours are linear RGB; scale is metres a texture tile, along u and v.

    gloss 0..1 is the mirror-like part of the light; glow is light given off, in the units of irradiance; mode is MATTE,
    MIRROR, SKY (shows what is outside) or SCREEN. word and colour describe it in captions.
    """

    texture: int
    colors: Rgb3
    scale: tuple[float, float]
    gloss: float = 0.0
    glow: float = 0.0
    mode: int = MATTE
    word: str = ""
    color: str = ""


@dataclass
class MaterialTable:
    """The materials of one scene, numbered as they are added."""

    items: list[Material] = field(default_factory=list)

    def add(self, material: Material) -> int:
        """Store a material and return its number."""
        self.items.append(material)
        return len(self.items) - 1


def linear(rgb: Rgb) -> Rgb:
    """sRGB in 0..1 to linear light (IEC 61966-2-1)."""
    red, green, blue = (float(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in rgb)
    return red, green, blue


def _linear_all(colors: Rgb3) -> Rgb3:
    first, second, third = colors
    return linear(first), linear(second), linear(third)


def blend(a: Rgb, b: Rgb, share: float) -> Rgb:
    """`share` of b in a."""
    red, green, blue = ((1 - share) * x + share * y for x, y in zip(a, b, strict=True))
    return red, green, blue


def color_name(rgb: Rgb) -> str:
    """The everyday word for an sRGB colour: by its hue, and where that is warm by how light and how strong it is."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*rgb)
    chroma = (1 - abs(2 * lightness - 1)) * saturation
    if chroma < 0.14:
        return "white" if lightness > 0.72 else "black" if lightness < 0.22 else "grey"
    name = next(word for end, word in _HUES if 360 * hue < end)
    if name in ("orange", "yellow"):
        return name if chroma >= 0.5 and lightness >= 0.36 else "beige" if lightness > 0.55 else "brown"
    return "pink" if name == "red" and lightness > 0.6 else name


def shade(rgb: Rgb, factor: float, rng: Rng, spread: float = 0.03) -> Rgb:
    """A lighter or darker neighbour of an sRGB colour."""
    jitter = rng.uniform(-spread, spread, 3)
    red, green, blue = (float(np.clip(c * factor + j, 0.02, 0.97)) for c, j in zip(rgb, jitter, strict=True))
    return red, green, blue


def any_color(rng: Rng) -> Rgb:
    """A colour that furniture comes in: neutral, muted or strong."""
    draw = rng.random()
    if draw < 0.3:
        value = rng.choice([rng.uniform(0.05, 0.2), rng.uniform(0.3, 0.7), rng.uniform(0.75, 0.95)])
        return shade((value, value, value * rng.uniform(0.88, 1.0)), 1.0, rng, 0.01)
    saturation = rng.uniform(0.15, 0.45) if draw < 0.7 else rng.uniform(0.45, 0.85)
    return colorsys.hsv_to_rgb(float(rng.random()), float(saturation), float(rng.uniform(0.25, 0.9)))


@dataclass
class Theme:
    """The colours one room keeps coming back to."""

    accents: list[Rgb]
    woods: list[tuple[str, Rgb]]

    @classmethod
    def draw(cls, rng: Rng) -> Theme:
        """Three accents and two woods."""
        return cls([any_color(rng) for _ in range(3)], [_WOODS[i] for i in rng.integers(0, len(_WOODS), 2)])

    def color(self, rng: Rng) -> Rgb:
        """An accent, or now and then a stranger."""
        if rng.random() < 0.45:
            return any_color(rng)
        return shade(self.accents[int(rng.integers(0, len(self.accents)))], float(rng.uniform(0.8, 1.15)), rng)

    def wood(self, rng: Rng) -> tuple[str, Rgb]:
        """A wood of the room, or now and then another."""
        woods = self.woods if rng.random() < 0.75 else _WOODS
        return woods[int(rng.integers(0, len(woods)))]


def _build(group: str, rng: Rng, colors: Rgb3, scale: float, word: str, gloss: float = 0.0) -> Material:
    return Material(textures.pick(rng, group), _linear_all(colors), (scale, scale), gloss, word=word, color=color_name(colors[0]))


def wood(rng: Rng, theme: Theme) -> Material:
    """Furniture wood, sometimes a bold veneer."""
    _, base = theme.wood(rng)
    base = shade(base, float(rng.uniform(0.85, 1.1)), rng, 0.02)
    dark = shade(base, float(rng.uniform(0.72, 0.9)), rng, 0.01)
    return _build(
        "wood", rng, (base, dark, shade(base, 0.6, rng, 0.01)), float(rng.uniform(0.5, 1.1)), "wooden", float(rng.choice([0.0, 0.04, 0.1]))
    )


def painted(rng: Rng, theme: Theme) -> Material:
    """Smooth paint or lacquer."""
    base = theme.color(rng) if rng.random() < 0.6 else shade((0.9, 0.89, 0.86), float(rng.uniform(0.85, 1.0)), rng, 0.02)
    return _build("plain", rng, (base, shade(base, 0.93, rng, 0.01), base), 1.0, "painted", float(rng.choice([0.02, 0.06, 0.15])))


_CLOTHS = (
    ("weave", "", 0.25, 0.34), ("plain", "", 1.0, 0.2), ("stripes", "striped", 0.5, 0.13), ("plaid", "checked", 0.4, 0.1),
    ("dots", "dotted", 0.4, 0.07), ("motif", "patterned", 0.45, 0.1), ("trellis", "patterned", 0.45, 0.06),
)  # fmt: skip


def fabric(rng: Rng, theme: Theme) -> Material:
    """Woven or printed cloth."""
    group, word, scale, _ = _CLOTHS[int(rng.choice(len(_CLOTHS), p=[c[3] for c in _CLOTHS]))]
    base = theme.color(rng)
    second = shade(base, 0.82, rng) if group in ("weave", "plain") else theme.color(rng)
    return _build(group, rng, (base, second, theme.color(rng)), scale * float(rng.uniform(0.6, 1.5)), word or "fabric")


def leather(rng: Rng, theme: Theme) -> Material:
    """Black, brown, cream or coloured leather."""
    choices = [(0.09, 0.08, 0.08), (0.42, 0.24, 0.13), (0.85, 0.78, 0.66), theme.color(rng)]
    base = shade(choices[int(rng.integers(0, 4))], float(rng.uniform(0.85, 1.1)), rng, 0.02)
    return _build("leather", rng, (base, shade(base, 0.85, rng, 0.01), shade(base, 0.6, rng, 0.01)), 0.35, "leather", 0.06)


def metal(rng: Rng, theme: Theme) -> Material:
    """Steel, brass, copper or black iron."""
    base = [(0.75, 0.76, 0.78), (0.72, 0.56, 0.3), (0.65, 0.4, 0.3), (0.1, 0.1, 0.11), (0.5, 0.5, 0.52)][int(rng.integers(0, 5))]
    base = shade(base, 1.0, rng, 0.02)
    return _build("brushed", rng, (base, shade(base, 0.8, rng, 0.01), base), 0.5, "metal", 0.25)


def ceramic(rng: Rng, theme: Theme) -> Material:
    """Glazed pottery, plain or decorated."""
    base = theme.color(rng) if rng.random() < 0.65 else (0.92, 0.91, 0.88)
    group = ["plain", "plain", "motif", "stripes", "marble", "dots"][int(rng.integers(0, 6))]
    second = shade(base, 0.9, rng) if group == "plain" else theme.color(rng)
    return _build(group, rng, (base, second, theme.color(rng)), 0.25, "ceramic", 0.12)


def glass(rng: Rng, theme: Theme) -> Material:
    """Coloured glass, drawn opaque with a strong gloss."""
    base = colorsys.hsv_to_rgb(
        float(rng.choice([0.33, 0.1, 0.55, 0.0, 0.45])), float(rng.uniform(0.05, 0.7)), float(rng.uniform(0.15, 0.8))
    )
    return _build("plain", rng, (base, base, base), 1.0, "glass", 0.3)


def paper(rng: Rng, theme: Theme) -> Material:
    """Cardboard or paper."""
    base = shade((0.76, 0.6, 0.42), float(rng.uniform(0.8, 1.1)), rng) if rng.random() < 0.6 else theme.color(rng)
    return _build("plain", rng, (base, shade(base, 0.9, rng), base), 0.7, "cardboard")


def wicker(rng: Rng, theme: Theme) -> Material:
    """Basketwork."""
    base = shade((0.7, 0.53, 0.33), float(rng.uniform(0.5, 1.2)), rng)
    return _build("wicker", rng, (shade(base, 0.75, rng, 0.01), base, shade(base, 0.35, rng, 0.01)), 0.3, "wicker")


def plastic(rng: Rng, theme: Theme) -> Material:
    """Coloured plastic."""
    base = any_color(rng)
    return _build("plain", rng, (base, base, base), 1.0, "plastic", 0.1)


def leaf(rng: Rng, theme: Theme) -> Material:
    """Foliage: mostly green, now and then yellowish, bluish or dry."""
    base = colorsys.hsv_to_rgb(float(rng.uniform(0.2, 0.42)), float(rng.uniform(0.35, 0.8)), float(rng.uniform(0.25, 0.6)))
    return _build("weave", rng, (base, shade(base, 0.7, rng), base), 0.3, "green", 0.05)


KINDS = {
    "wood": wood, "painted": painted, "fabric": fabric, "leather": leather, "metal": metal, "ceramic": ceramic, "glass": glass,
    "paper": paper, "wicker": wicker, "plastic": plastic, "leaf": leaf,
}  # fmt: skip


def sample(rng: Rng, theme: Theme, *kinds: str) -> Material:
    """A material of one of the kinds, each as likely as the others."""
    return KINDS[kinds[int(rng.integers(0, len(kinds)))]](rng, theme)


def fitted(group: str, rng: Rng, colors: Rgb3, size: tuple[float, float], **options: Any) -> Material:
    """A texture seen whole on a rectangle of that size in metres: a painting, a rug, a screen."""
    base = Material(textures.pick(rng, group), _linear_all(colors), size, color=color_name(colors[0]))
    return replace(base, **options)


def wall_paint(rng: Rng, theme: Theme) -> Material:
    """What covers a wall: paint most often, or paper, tiles, brick, boards."""
    light = shade(any_color(rng), 1.0, rng)
    base = blend(light, (0.95, 0.93, 0.89), 0.45) if rng.random() < 0.75 else light
    draw = rng.random()
    if draw < 0.55:
        return _build("plaster", rng, (base, shade(base, 0.95, rng, 0.01), shade(base, 0.9, rng, 0.01)), 1.6, "painted")
    if draw < 0.85:
        group = ["stripes", "motif", "trellis", "dots", "motif"][int(rng.integers(0, 5))]
        second = shade(base, float(rng.uniform(0.7, 0.92)), rng, 0.05)
        return _build(
            group, rng, (base, second, shade(base, float(rng.uniform(0.6, 1.1)), rng, 0.08)), float(rng.uniform(0.5, 1.3)), "papered"
        )
    if draw < 0.93:
        brick = shade((0.62, 0.33, 0.24), float(rng.uniform(0.8, 1.4)), rng, 0.06)
        return _build("brick", rng, (brick, shade(brick, 0.75, rng), (0.7, 0.67, 0.62)), 0.9, "brick")
    return wood(rng, theme)


def floor_cover(rng: Rng, theme: Theme, kitchen: bool) -> Material:
    """Boards, parquet, tiles, carpet or stone."""
    groups = (
        ["tiles", "chequer", "planks", "tiles", "marble"]
        if kitchen
        else ["planks", "planks", "planks", "parquet", "carpet", "carpet", "tiles"]
    )
    group = groups[int(rng.integers(0, len(groups)))]
    if group in ("planks", "parquet"):
        base = shade(theme.wood(rng)[1], float(rng.uniform(0.8, 1.1)), rng)
        colors = (base, shade(base, float(rng.uniform(0.6, 0.85)), rng, 0.02), shade(base, 0.4, rng, 0.01))
        return _build(group, rng, colors, float(rng.uniform(1.0, 1.8)), "wooden", float(rng.choice([0.0, 0.05, 0.12])))
    base = any_color(rng)
    base = blend(base, (0.75, 0.72, 0.68), 0.5)
    if group == "carpet":
        return _build(group, rng, (base, shade(base, 0.8, rng), shade(base, 0.7, rng)), 0.6, "carpeted")
    second = shade(base, float(rng.uniform(0.25, 0.5)) if group == "chequer" else 0.85, rng)
    grout = shade((0.7, 0.68, 0.65), float(rng.uniform(0.5, 1.2)), rng)
    return _build(group, rng, (base, second, grout), float(rng.uniform(0.9, 1.6)), "tiled", float(rng.choice([0.05, 0.1, 0.2])))
