"""The bank of procedural textures: two mixing channels a texel, with mip levels, the same for every seed.

A material's colour at a texel is mix(mix(A, B, t1), C, t2): t1 and t2 come from here, A, B and C from the material, so
one pattern serves any colours. Every texture is SIZE x SIZE, repeats at its borders (pictures excepted), v pointing up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np

SIZE = 256
LEVELS = 9
LEVEL_STARTS = np.cumsum([0] + [(SIZE >> level) ** 2 for level in range(LEVELS - 1)]).astype(np.int32)

TEXELS = int(sum((SIZE >> level) ** 2 for level in range(LEVELS)))

Pattern = tuple[np.ndarray, np.ndarray]
Maker = Callable[[np.random.Generator], Pattern]


@lru_cache(maxsize=32)
def _falloff(beta: float, stretch: float) -> np.ndarray:
    """The spectrum f^-beta on the half plane of a real transform, 0 at f = 0."""
    radius = np.hypot(np.fft.rfftfreq(SIZE)[None, :] * SIZE * stretch, np.fft.fftfreq(SIZE)[:, None] * SIZE)
    radius[0, 0] = 1
    spectrum = radius**-beta
    spectrum[0, 0] = 0
    return spectrum


def noise(rng: np.random.Generator, beta: float, stretch: float = 1.0) -> np.ndarray:
    """Tiling noise in [0, 1] with spectrum f^-beta; stretch > 1 draws it out along u."""
    field = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * _falloff(beta, stretch), (SIZE, SIZE))
    return np.clip(0.5 + field / (5 * field.std()), 0, 1)


def grid() -> tuple[np.ndarray, np.ndarray]:
    """u and v in [0, 1) at texel centres; row 0 is v = 0."""
    c = (np.arange(SIZE) + 0.5) / SIZE
    return np.broadcast_to(c[None, :], (SIZE, SIZE)), np.broadcast_to(c[:, None], (SIZE, SIZE))


def step(x: np.ndarray, at: float, width: float = 0.02) -> np.ndarray:
    """A soft edge: 0 below `at`, 1 above."""
    return np.clip((x - at) / width + 0.5, 0, 1)


def rectangle(u: np.ndarray, v: np.ndarray, box: tuple[float, float, float, float], soft: float = 0.008) -> np.ndarray:
    """1 inside the box (u0, v0, u1, v1)."""
    return step(u, box[0], soft) * step(-u, -box[2], soft) * step(v, box[1], soft) * step(-v, -box[3], soft)


def plain(rng: np.random.Generator) -> Pattern:
    return noise(rng, 1.2) * 0.5, np.zeros((SIZE, SIZE))


def plaster(rng: np.random.Generator) -> Pattern:
    return 0.5 * noise(rng, 1.4) + 0.3 * noise(rng, 0.5), step(noise(rng, 1.0), 0.75, 0.2) * 0.25


def wood(rng: np.random.Generator) -> Pattern:
    """Rings cut lengthwise: v bends slowly along u."""
    _u, v = grid()
    bend = noise(rng, 2.2, 3.0)
    rings = v * rng.integers(3, 7) + bend * rng.uniform(2, 6)
    grain = 0.5 + 0.5 * np.sin(2 * np.pi * rings)
    fibre = noise(rng, 0.9, 14.0)
    return np.clip(0.55 * grain**1.6 + 0.5 * fibre, 0, 1), step(fibre, 0.68, 0.3) * 0.5


def planks(rng: np.random.Generator, rows: int) -> Pattern:
    """Boards along u, each with its own tone, staggered, with dark joints."""
    u, v = grid()
    row = np.floor(v * rows).astype(int)
    shifted = u + rng.uniform(0, 1, rows)[row]
    board = np.floor(shifted * 2).astype(int) % 2
    tone = rng.uniform(0, 1, (rows, 2))[row, board]
    fibre = noise(rng, 1.0, 12.0)
    joint_v = 1 - rectangle(np.zeros_like(v) + 0.5, (v * rows) % 1, (0, 0.03, 1, 0.97), 0.03)
    joint_u = 1 - rectangle((shifted * 2) % 1, np.zeros_like(u) + 0.5, (0.006, 0, 0.994, 1), 0.006)
    return np.clip(0.6 * tone + 0.5 * fibre - 0.05, 0, 1), np.clip(np.maximum(joint_v, joint_u), 0, 1) * 0.8


def parquet(rng: np.random.Generator) -> Pattern:
    """Square blocks of five strips, turned in a chequer."""
    u, v = grid()
    block = (np.floor(u * 4) + np.floor(v * 4)).astype(int) % 2
    strip = np.floor(np.where(block, u, v) * 20).astype(int)
    other = np.floor(np.where(block, v, u) * 4).astype(int)
    tone = rng.uniform(0, 1, (20, 4))[strip, other]
    joint = np.abs((np.where(block, u, v) * 20) % 1 - 0.5) > 0.46
    return np.clip(0.75 * tone + 0.3 * noise(rng, 1.0), 0, 1), joint * 0.6


def tiles(rng: np.random.Generator, count: int, offset: float, aspect: int = 1) -> Pattern:
    """Ceramic tiles with grout; offset 0.5 makes bricks."""
    u, v = grid()
    row = np.floor(v * count * aspect).astype(int)
    shifted = u * count + offset * (row % 2)
    column = np.floor(shifted).astype(int) % count
    tone = rng.uniform(0, 1, (count * aspect, count))[row, column]
    inside = rectangle(shifted % 1, (v * count * aspect) % 1, (0.025, 0.025 * aspect, 0.975, 1 - 0.025 * aspect), 0.03)
    return np.clip(0.45 * tone + 0.4 * noise(rng, 1.3), 0, 1), 1 - inside


def chequer(rng: np.random.Generator) -> Pattern:
    u, v = grid()
    dark = (np.floor(u * 4) + np.floor(v * 4)) % 2
    return np.clip(0.9 * dark + 0.1 * noise(rng, 1), 0, 1), np.zeros((SIZE, SIZE))


def marble(rng: np.random.Generator) -> Pattern:
    u, v = grid()
    field = noise(rng, 1.7)
    veins = np.abs(np.sin(2 * np.pi * (u + v + 3 * field)))
    return 0.6 * noise(rng, 1.6), np.clip(1 - veins * 6, 0, 1) * 0.7


def carpet(rng: np.random.Generator) -> Pattern:
    return 0.5 * noise(rng, 0.1) + 0.4 * noise(rng, 1.5), step(noise(rng, 0.3), 0.7, 0.2) * 0.4


def weave(rng: np.random.Generator, threads: int) -> Pattern:
    u, v = grid()
    over = (np.floor(u * threads) + np.floor(v * threads)) % 2
    bump = np.where(over, np.sin(np.pi * ((u * threads) % 1)), np.sin(np.pi * ((v * threads) % 1)))
    return np.clip(0.5 * bump + 0.3 * noise(rng, 0.6) + 0.2 * noise(rng, 1.6), 0, 1), np.zeros((SIZE, SIZE))


def stripes(rng: np.random.Generator, count: int) -> Pattern:
    u, _ = grid()
    phase = (u * count) % 1
    wide, thin = step(np.abs(phase - 0.5), 0.25, 0.03), step(-np.abs(phase - 0.5), -0.06, 0.03)
    return wide, thin * rng.integers(0, 2)


def plaid(rng: np.random.Generator) -> Pattern:
    u, v = grid()
    count = int(rng.integers(3, 6))
    band = 0.5 * (((u * count) % 1) < 0.5) + 0.5 * (((v * count) % 1) < 0.5)
    thin = (np.abs((u * count) % 1 - 0.25) < 0.04) | (np.abs((v * count) % 1 - 0.25) < 0.04)
    return band, thin * 0.8


def dots(rng: np.random.Generator) -> Pattern:
    u, v = grid()
    count, radius = int(rng.integers(3, 7)), rng.uniform(0.16, 0.34)
    row = np.floor(v * count * 2)
    inside = radius - np.hypot((u * count + 0.5 * (row % 2)) % 1 - 0.5, ((v * count * 2) % 1 - 0.5) * 0.5)
    return np.zeros((SIZE, SIZE)) + 0.1 * noise(rng, 1), step(inside, 0, 0.06)


def motif(rng: np.random.Generator) -> Pattern:
    """A printed flower or star repeated in a half drop, as on wallpaper."""
    u, v = grid()
    count, petals = int(rng.integers(2, 5)), int(rng.integers(3, 8))
    column = np.floor(u * count)
    x, y = (u * count) % 1 - 0.5, (v * count + 0.5 * (column % 2)) % 1 - 0.5
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    shape = 0.24 + 0.14 * np.cos(petals * angle + rng.uniform(0, 6))
    leaf = 0.09 + 0.05 * np.cos(petals * angle)
    return step(shape - radius, 0, 0.05), step(leaf - radius, 0, 0.05)


def trellis(rng: np.random.Generator) -> Pattern:
    u, v = grid()
    count = int(rng.integers(3, 6))
    wave = (
        np.abs(np.cos(np.pi * count * u) * np.cos(np.pi * count * v))
        if rng.random() < 0.5
        else np.abs(np.sin(np.pi * count * (u + v)) * np.sin(np.pi * count * (u - v)))
    )
    return step(-wave, -0.22, 0.1), np.zeros((SIZE, SIZE))


def leather(rng: np.random.Generator) -> Pattern:
    return 0.4 * noise(rng, 1.0), step(np.abs(noise(rng, 1.1) - 0.5), 0.02, 0.03) * -0.3 + 0.3


def brushed(rng: np.random.Generator) -> Pattern:
    return noise(rng, 0.6, 20.0) * 0.6, np.zeros((SIZE, SIZE))


def wicker(rng: np.random.Generator) -> Pattern:
    u, v = grid()
    over = (np.floor(u * 12) + np.floor(v * 24)) % 2
    bump = np.sin(np.pi * ((u * 12 + 0.5 * over) % 1)) * np.sin(np.pi * ((v * 24) % 1))
    return np.clip(bump, 0, 1), np.clip(1 - 3 * bump, 0, 1) * 0.8


def spine(rng: np.random.Generator) -> Pattern:
    """A book's back: title bands across, u along the book."""
    u, v = grid()
    out, ink = 0.2 * noise(rng, 1), np.zeros((SIZE, SIZE))
    for _ in range(int(rng.integers(1, 4))):
        at, width = rng.uniform(0.06, 0.9), rng.uniform(0.01, 0.12)
        out = np.maximum(out, rectangle(u, v, (at, -1, at + width, 2)))
    letters = noise(rng, 0.4) > 0.5
    start = rng.uniform(0.2, 0.4)
    ink = np.maximum(ink, rectangle(u, v, (start, 0.3, start + rng.uniform(0.2, 0.4), 0.7)) * letters)
    return out, ink


def border_rug(rng: np.random.Generator) -> Pattern:
    """A rug seen whole: borders and a field with medallions."""
    u, v = grid()
    edge = np.minimum(np.minimum(u, 1 - u), np.minimum(v, 1 - v))
    bands = step(np.abs(edge - rng.uniform(0.06, 0.12)), 0.02, 0.01)
    count = int(rng.integers(2, 6))
    x, y = np.abs((u * count) % 1 - 0.5), np.abs((v * count) % 1 - 0.5)
    diamond = rng.uniform(0.3, 0.5) - (x + y)
    field = step(diamond, 0, 0.03) * (1 - step(diamond, 0.15, 0.03))
    inner = (edge > 0.14) * field
    return np.clip(1 - bands + inner + 0.2 * noise(rng, 0.3), 0, 1), (edge > 0.14) * step(diamond, 0.22, 0.03) + (edge < 0.02) * 1.0


def landscape(rng: np.random.Generator) -> Pattern:
    """A painted view: sky above, hills and trees below; also what is outside a window."""
    _u, v = grid()
    horizon = rng.uniform(0.35, 0.55)
    ridge = horizon + 0.25 * (noise(rng, 2.0)[0] - 0.5)[None, :]
    land = step(ridge - v, 0, 0.01)
    trees = (noise(rng, 1.6) > 0.5) * step(ridge - 0.08 - v, 0, 0.02)
    clouds = step(noise(rng, 1.8, 2.5), 0.6, 0.3) * (1 - land) * 0.3
    return np.clip(land + clouds, 0, 1), np.clip(trees * (0.6 + 0.4 * noise(rng, 0.8)), 0, 1)


def skyline(rng: np.random.Generator) -> Pattern:
    """Houses and trees against the sky."""
    u, v = grid()
    blocks = 18
    column = np.floor(u * blocks).astype(int)
    height = rng.uniform(0.3, 0.62, blocks)[column]
    land = step(height - v, 0, 0.01)
    panes = ((u * blocks * 4) % 1 > 0.4) & ((v * 40) % 1 > 0.45) & (v < height - 0.03)
    trees = step(0.32 + 0.3 * (noise(rng, 1.8)[0] - 0.5)[None, :] - v, 0, 0.02) * (0.7 + 0.3 * noise(rng, 0.7))
    return np.clip(land * (0.75 + 0.25 * rng.uniform(0, 1, blocks)[column]) - 0.3 * panes, 0, 1), np.clip(trees, 0, 1)


def abstract(rng: np.random.Generator) -> Pattern:
    """Overlapping shapes, as in a modern painting."""
    u, v = grid()
    layers = [0.2 * noise(rng, 1.2), np.zeros((SIZE, SIZE))]
    for _ in range(int(rng.integers(3, 8))):
        cu, cv, r = float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.08, 0.35))
        kind, which = rng.integers(0, 3), int(rng.integers(0, 2))
        if kind == 0:
            shape = step(r - np.hypot(u - cu, v - cv), 0, 0.01)
        elif kind == 1:
            shape = rectangle(u, v, (cu - r, cv - r * rng.uniform(0.2, 1), cu + r, cv + r * rng.uniform(0.2, 1)))
        else:
            angle = rng.uniform(0, np.pi)
            shape = step(-np.abs((u - cu) * np.cos(angle) + (v - cv) * np.sin(angle)), -0.2 * r, 0.01)
        layers[which] = layers[which] * (1 - shape) + shape * rng.uniform(0.4, 1)
    return layers[0], layers[1]


def portrait(rng: np.random.Generator) -> Pattern:
    """Head and shoulders before a dark ground."""
    u, v = grid()
    cu = rng.uniform(0.42, 0.58)
    head = step(1 - np.hypot((u - cu) / 0.14, (v - 0.62) / 0.19), 0, 0.08)
    body = step(1 - np.hypot((u - cu) / 0.34, v / 0.42), 0, 0.05)
    hair = step(1 - np.hypot((u - cu) / 0.17, (v - 0.68) / 0.2), 0, 0.08) * (1 - head * (v < 0.7))
    return np.clip(head + 0.25 * noise(rng, 1.6), 0, 1), np.clip(0.85 * body * (1 - head) + hair, 0, 1)


def poster(rng: np.random.Generator) -> Pattern:
    """A block picture above lines of print; also screens with windows and text."""
    u, v = grid()
    split = rng.uniform(0.3, 0.6)
    lines = ((v * 26) % 1 < 0.5) & (noise(rng, 0.8, 6.0) > 0.42) & (u > 0.1) & (u < 0.9) & (v < split - 0.06) & (v > 0.07)
    picture = rectangle(u, v, (0.08, split, 0.92, 0.93)) * noise(rng, 1.9)
    return np.clip(picture * 1.2, 0, 1), lines * 0.9


def dial(rng: np.random.Generator) -> Pattern:
    """A clock face: twelve marks and two hands in channel 2."""
    u, v = grid()
    x, y = (u - 0.5) * 2, (v - 0.5) * 2
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    spread = np.abs((angle / (np.pi / 6)) % 1 - 0.5) * 2
    marks = (spread > 0.82) & (radius > 0.72) & (radius < 0.88)
    hands = np.zeros((SIZE, SIZE), bool)
    for length, width in ((0.45, 0.06), (0.7, 0.04)):
        a = rng.uniform(0, 2 * np.pi)
        along, across = x * np.cos(a) + y * np.sin(a), -x * np.sin(a) + y * np.cos(a)
        hands |= (np.abs(across) < width) & (along > -0.1) & (along < length)
    return step(radius, 0.93, 0.03), np.clip(marks * 1.0 + hands, 0, 1)


def keys(rng: np.random.Generator) -> Pattern:
    u, v = grid()
    row = np.floor(v * 5)
    inside = rectangle((u * 14 + 0.3 * row) % 1, (v * 5) % 1, (0.12, 0.12, 0.88, 0.88), 0.05)
    return inside * 0.9, np.zeros((SIZE, SIZE)) + 0 * rng.random()


def hob(rng: np.random.Generator) -> Pattern:
    """Four rings of a cooker seen from above."""
    u, v = grid()
    rings = np.zeros((SIZE, SIZE))
    for cu, cv in ((0.27, 0.27), (0.73, 0.27), (0.27, 0.73), (0.73, 0.73)):
        r = rng.uniform(0.11, 0.18)
        distance = np.hypot(u - cu, v - cv)
        rings = np.maximum(rings, step(-np.abs(distance - r), -0.025, 0.02) + 0.5 * (distance < 0.6 * r))
    return np.clip(rings, 0, 1), np.zeros((SIZE, SIZE))


def duvet(rng: np.random.Generator) -> Pattern:
    """Soft folds of bedclothes."""
    folds = noise(rng, 1.9)
    return np.clip(np.abs(np.sin(6 * folds)) * 0.5 + 0.3 * noise(rng, 1.2), 0, 1), np.zeros((SIZE, SIZE))


_RECIPES: dict[str, list[Maker]] = {
    "plain": [plain], "plaster": 2 * [plaster], "wood": 5 * [wood], "planks": [partial(planks, rows=n) for n in (5, 8, 8, 12)],
    "parquet": [parquet], "tiles": [partial(tiles, count=n, offset=0) for n in (2, 3, 4)],
    "walltiles": [partial(tiles, count=6, offset=0), partial(tiles, count=4, offset=0.5, aspect=2)],
    "brick": [partial(tiles, count=4, offset=0.5, aspect=3)], "chequer": [chequer],
    "marble": 2 * [marble], "carpet": 3 * [carpet], "weave": [partial(weave, threads=n) for n in (24, 48)],
    "stripes": [partial(stripes, count=n) for n in (3, 5, 8, 14)], "plaid": 2 * [plaid], "dots": 3 * [dots], "motif": 5 * [motif],
    "trellis": 3 * [trellis], "leather": [leather], "brushed": [brushed], "wicker": [wicker], "spine": 6 * [spine],
    "rug": 6 * [border_rug], "picture": [*5 * [landscape], *10 * [abstract], *4 * [portrait], *2 * [skyline]], "poster": 4 * [poster],
    "view": [*3 * [landscape], *3 * [skyline]], "dial": 4 * [dial], "keys": [keys], "hob": [hob], "duvet": 2 * [duvet],
}  # fmt: skip

GROUPS: dict[str, tuple[int, int]] = {}
_total = 0
for _name, _makers in _RECIPES.items():
    GROUPS[_name] = (_total, _total + len(_makers))
    _total += len(_makers)


def pick(rng: np.random.Generator, group: str) -> int:
    """The number of a texture of that group."""
    return int(rng.integers(*GROUPS[group]))


def _mipmap(pattern: Pattern) -> np.ndarray:
    """The chain of halved levels of one texture, flattened: [TEXELS] uint16."""
    levels = []
    first, second = (np.clip(channel, 0, 1) for channel in pattern)
    for _ in range(LEVELS):
        levels.append((np.rint(first * 255) + 256 * np.rint(second * 255)).astype(np.uint16).ravel())
        if len(first) > 1:
            first, second = ((c[::2, ::2] + c[1::2, ::2] + c[::2, 1::2] + c[1::2, 1::2]) / 4 for c in (first, second))
    return np.concatenate(levels)


@lru_cache(maxsize=1)
def bank() -> np.ndarray:
    """All textures in one row of texels, built once a process from a fixed seed: [T * TEXELS] uint16, t1 + 256 * t2 (each 0..255).

    Texture t starts at t * TEXELS, its level l at LEVEL_STARTS[l] from there, rows of SIZE >> l texels.
    """
    makers = [maker for group in _RECIPES.values() for maker in group]
    seeds = np.random.SeedSequence(20250101).spawn(len(makers))
    return np.concatenate([_mipmap(maker(np.random.Generator(np.random.PCG64(seed)))) for maker, seed in zip(makers, seeds, strict=True)])
