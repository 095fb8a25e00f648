"""Small things: lamps, plants, vessels, boxes, books' neighbours, screens. Every maker takes the kit and returns a Piece."""

from __future__ import annotations

import colorsys
import itertools

import numpy as np

from tips_bench.rooms.drawing import materials
from tips_bench.rooms.drawing.mesh import Mesh, bar, blob, boxes, cylinder, lathe, leaves, quad
from tips_bench.rooms.drawing.piece import Glow, Kit, Piece

BULB = (1.0, 0.78, 0.52)


def _shade_material(kit: Kit, glow: float) -> int:
    base = (0.95, 0.88, 0.74) if kit.chance(0.6) else kit.theme.color(kit.rng)
    color = materials.linear(base)
    return kit.table.add(materials.Material(0, (color, color, color), (1, 1), glow=glow, color=materials.color_name(base)))


def _bulb(kit: Kit, z: float, radius: float, lit: bool, power: float) -> list[Glow]:
    return [Glow((0, 0, z), radius, BULB, power * kit.uniform(0.7, 1.3))] if lit else []


def table_lamp(kit: Kit, lit: bool) -> Piece:
    """A lamp on a foot, 0.3-0.55 m."""
    height, wide = kit.uniform(0.3, 0.55), kit.uniform(0.1, 0.18)
    base, cover = kit.material("ceramic", "wood", "metal", "glass"), _shade_material(kit, 2.2 if lit else 0.0)
    piece = Piece("lamp", (2 * wide, 2 * wide, height), "", kit.table.items[cover].color)
    neck = height * kit.uniform(0.45, 0.6)
    belly = kit.uniform(0.02, 0.09)
    piece.add(base, lathe([(0, 0), (0.07, 0), (0.065, 0.015), (belly, neck * 0.4), (0.015, neck * 0.85), (0.012, neck)], 14))
    top = wide * kit.uniform(0.45, 1.0)
    piece.add(cover, lathe([(wide, neck * 0.92), (top, height)], 18), lathe([(0, height - 0.004), (top, height - 0.003)], 18))
    piece.glows = _bulb(kit, (neck + height) / 2, wide * 1.15, lit, 0.5)
    return piece


def floor_lamp(kit: Kit, lit: bool) -> Piece:
    """A standing lamp: straight, arched or on three legs."""
    height, wide = kit.uniform(1.35, 1.75), kit.uniform(0.14, 0.24)
    pole, cover = kit.material("metal", "wood"), _shade_material(kit, 2.2 if lit else 0.0)
    piece = Piece("lamp", (2 * wide, 2 * wide, height), "", kit.table.items[cover].color)
    low = height - kit.uniform(0.2, 0.32)
    if kit.chance(0.35):
        for i in range(3):
            piece.add(pole, bar((0, 0, low), (0.24, 0, 0), 0.014, 6).turned("z", 120 * i + 30))
    else:
        piece.add(pole, cylinder(0.13, 0, 0.025, 16), cylinder(0.013, 0.02, low + 0.02, 8))
    top = wide * kit.uniform(0.5, 1.0)
    piece.add(cover, lathe([(wide, low), (top, height)], 18), lathe([(0, height - 0.004), (top, height - 0.003)], 18))
    piece.glows = _bulb(kit, (low + height) / 2, wide * 1.15, lit, 0.9)
    return piece


def ceiling_light(kit: Kit, lit: bool, drop: float) -> Piece:
    """A light hung from the ceiling: cone, globe, drum or a flat dish. Origin at the ceiling, reaching down by `drop`."""
    wide = kit.uniform(0.14, 0.28)
    cover, wire = _shade_material(kit, 2.6 if lit else 0.0), kit.material("metal", "plastic")
    piece = Piece("light", (2 * wide, 2 * wide, drop), "", kit.table.items[cover].color)
    style = kit.choose("cone", "globe", "drum", "dish")
    if style == "dish":
        piece.add(cover, lathe([(0, -0.12), (wide * 0.6, -0.1), (wide, -0.05), (wide, 0)], 20))
        piece.glows = _bulb(kit, -0.1, wide * 1.2, lit, 1.3)
        return piece
    piece.add(wire, cylinder(0.05, -0.03, 0, 10), cylinder(0.006, -drop + 0.1, 0, 6))
    if style == "cone":
        piece.add(cover, lathe([(wide, -drop), (wide * 0.25, -drop + 0.2), (0, -drop + 0.22)], 20))
    elif style == "globe":
        piece.add(cover, blob((wide * 0.8, wide * 0.8, wide * 0.8), 1.0, 11, 18).moved(z=-drop + wide * 0.8))
    else:
        piece.add(cover, lathe([(wide, -drop), (wide, -drop + 0.22)], 20), lathe([(0, -drop + 0.2), (wide, -drop + 0.2)], 20))
    piece.glows = _bulb(kit, -drop + 0.05, wide * 1.2, lit, 1.3)
    return piece


def _foliage(kit: Kit, height: float, spread: float) -> list[Mesh]:
    """Blades from one root, broad leaves on stems, or a bushy crown."""
    style = kit.choose("blades", "stems", "bush")
    rng = kit.rng
    if style == "blades":
        count = kit.count(10, 26)
        base = np.stack([rng.uniform(-0.03, 0.03, count), rng.uniform(-0.03, 0.03, count), np.zeros(count)], -1)
        return [
            leaves(
                base,
                rng.uniform(0, 2 * np.pi, count),
                rng.uniform(0.7, 1.5, count),
                height * rng.uniform(0.7, 1.15, count),
                kit.uniform(0.012, 0.035) * (0.5 + height),
                kit.uniform(0.3, 2.0),
                6,
            )
        ]
    count = kit.count(16, 36) if style == "stems" else kit.count(50, 90)
    yaw = rng.uniform(0, 2 * np.pi, count)
    rise = height * (rng.uniform(0.3, 1.0, count) if style == "stems" else rng.uniform(0.35, 0.95, count))
    reach = (
        spread
        * (0.35 if style == "stems" else 0.75)
        * np.sqrt(rng.uniform(0, 1, count))
        * np.sin(np.pi * np.clip(rise / height, 0.15, 0.95))
    )
    base = np.stack([reach * np.cos(yaw), reach * np.sin(yaw), rise], -1)
    length = spread * rng.uniform(0.5, 0.9, count) * (1.0 if style == "stems" else 0.5)
    blades = leaves(
        base, yaw + rng.uniform(-0.6, 0.6, count), rng.uniform(-0.2, 1.0, count), length, length.mean() * kit.uniform(0.18, 0.32), 1.0
    )
    stems = [
        bar((0, 0, 0), b, 0.006 + 0.004 * height, 5) for b in (base[: kit.count(4, 8)] if style == "stems" else base[:3] * [0.3, 0.3, 1])
    ]
    return [blades, *stems]


def plant(kit: Kit, height: float) -> Piece:
    """A potted plant of that height in metres."""
    pot_height = height * kit.uniform(0.2, 0.4)
    radius = min(0.2, pot_height * kit.uniform(0.45, 0.75))
    pot, green = kit.material("ceramic", "ceramic", "plastic", "wicker", "wood"), kit.material("leaf")
    crown = height - pot_height
    piece = Piece("plant", (3 * radius, 3 * radius, height), "potted", kit.table.items[green].color)
    foot = radius * kit.uniform(0.6, 1.0)
    piece.add(
        pot,
        lathe(
            [
                (0, 0),
                (foot, 0),
                (radius, pot_height),
                (radius * 0.88, pot_height),
                (radius * 0.86, pot_height * 0.9),
                (0, pot_height * 0.9),
            ],
            18,
        ),
    )
    piece.add(green, *(m.moved(z=pot_height * 0.88) for m in _foliage(kit, crown, min(0.5, crown * kit.uniform(0.45, 0.7)))))
    return piece


def _vessel(kit: Kit, height: float, wide: float) -> list[tuple[float, float]]:
    """The outline of a vase, from foot to lip and a little inside."""
    foot, belly, neck, at = kit.uniform(0.4, 0.8), kit.uniform(0.8, 1.0), kit.uniform(0.3, 0.9), kit.uniform(0.3, 0.6)
    points = [(0, 0)]
    for t in np.linspace(0, 1, 7):
        below = foot + (belly - foot) * np.sin(np.pi / 2 * min(t / at, 1))
        above = neck + (belly - neck) * np.cos(np.pi / 2 * np.clip((t - at) / (1 - at), 0, 1))
        points.append((wide * (below if t < at else above), height * t))
    return [*points, (points[-1][0] * 0.85, height), (points[-1][0] * 0.8, height * 0.8)]


def vase(kit: Kit, flowers: bool) -> Piece:
    """A vase, at times with flowers."""
    height, wide = kit.uniform(0.14, 0.34), kit.uniform(0.05, 0.11)
    clay = kit.material("ceramic", "ceramic", "glass", "metal")
    piece = kit.piece("vase", (2 * wide, 2 * wide, height), clay)
    piece.add(clay, lathe(_vessel(kit, height, wide), 16))
    if flowers:
        piece.carry(_bunch(kit, height), 0, 0, height * 0.8)
    return piece


def _bunch(kit: Kit, vase_height: float) -> Piece:
    """Cut flowers: stems, a few leaves, heads of one or two colours."""
    rng, count = kit.rng, kit.count(4, 10)
    hue, petals = float(rng.random()), []
    for _ in range(2):
        base = colorsys.hsv_to_rgb((hue + kit.uniform(-0.06, 0.06)) % 1, kit.uniform(0.1, 0.85), kit.uniform(0.7, 0.97))
        color = materials.linear(base)
        petals.append(kit.table.add(materials.Material(0, (color, color, color), (0.3, 0.3), color=materials.color_name(base))))
    green = kit.material("leaf")
    height = kit.uniform(0.14, 0.3) + vase_height * 0.25
    piece = Piece("flower", (0.25, 0.25, height), "", kit.table.items[petals[0]].color)
    angle, spread = rng.uniform(0, 2 * np.pi, count), rng.uniform(0.02, 0.12, count)
    tips = np.stack([spread * np.cos(angle), spread * np.sin(angle), height * rng.uniform(0.7, 1.0, count)], -1)
    for tip in tips:
        piece.add(green, bar((0, 0, 0), tip, 0.003, 4))
        size = kit.uniform(0.022, 0.042)
        piece.add(petals[int(rng.integers(0, 2))], blob((size, size, size * 0.7), 1.0, 6, 8).moved(*tip))
    base = tips * 0.5
    piece.add(green, leaves(base, angle, rng.uniform(0.2, 1.0, count), np.full(count, 0.1), 0.018, 0.8, 3))
    return piece


def bottle(kit: Kit) -> Piece:
    """A bottle with shoulder, neck and label."""
    height, radius = kit.uniform(0.2, 0.34), kit.uniform(0.028, 0.045)
    body, label = kit.material("glass", "plastic"), kit.material("paper", "plastic")
    piece = kit.piece("bottle", (2 * radius, 2 * radius, height), body)
    shoulder, neck = height * kit.uniform(0.5, 0.72), radius * kit.uniform(0.28, 0.45)
    piece.add(body, lathe([(0, 0), (radius, 0), (radius, shoulder), (neck, shoulder + height * 0.12), (neck, height)], 12))
    piece.add(label, lathe([(radius * 1.02, shoulder * 0.25), (radius * 1.02, shoulder * 0.8)], 12))
    piece.add(kit.material("plastic", "metal"), cylinder(neck * 1.15, height * 0.93, height, 8))
    return piece


def glass(kit: Kit) -> Piece:
    """A drinking glass, mug or goblet."""
    height, radius = kit.uniform(0.08, 0.13), kit.uniform(0.03, 0.045)
    body = kit.material("glass", "ceramic", "plastic")
    piece = kit.piece("glass", (2 * radius, 2 * radius, height), body)
    if kit.chance(0.25):
        piece.add(
            body, lathe([(0, 0), (radius * 0.9, 0), (0.006, 0.01), (0.006, height * 0.6), (radius, height), (radius, height * 1.5)], 12)
        )
        return piece
    piece.add(body, lathe([(0, 0), (radius * 0.85, 0), (radius, height), (radius * 0.9, height), (radius * 0.8, 0.01), (0, 0.01)], 12))
    if kit.chance(0.4):
        for low, high in ((0.25, 0.3), (0.75, 0.8)):
            piece.box(body, (radius * 0.85, radius * 1.6), (-0.006, 0.006), (height * low, height * high))
        piece.box(body, (radius * 1.45, radius * 1.6), (-0.006, 0.006), (height * 0.25, height * 0.8))
    return piece


def plate(kit: Kit) -> Piece:
    """A plate or a shallow bowl."""
    radius, height = kit.uniform(0.09, 0.15), kit.uniform(0.015, 0.06)
    body = kit.material("ceramic", "ceramic", "glass", "wood")
    piece = kit.piece("plate", (2 * radius, 2 * radius, height), body)
    piece.add(body, lathe([(0, 0), (radius * 0.55, 0), (radius, height), (radius * 0.97, height), (radius * 0.55, 0.006), (0, 0.006)], 20))
    return piece


def box(kit: Kit, scale: float = 1.0) -> Piece:
    """A carton or storage box, shut, open or with a lid."""
    size = (kit.uniform(0.16, 0.42) * scale, kit.uniform(0.14, 0.34) * scale, kit.uniform(0.1, 0.32) * scale)
    body = kit.material("paper", "paper", "fabric", "plastic", "wood")
    piece = kit.piece("box", size, body)
    w, d, h = size[0] / 2, size[1] / 2, size[2]
    if kit.chance(0.3):
        for x, y in (((-w, -w + 0.01), (-d, d)), ((w - 0.01, w), (-d, d)), ((-w, w), (-d, -d + 0.01)), ((-w, w), (d - 0.01, d))):
            piece.box(body, x, y, (0, h))
        piece.box(body, (-w, w), (-d, d), (0, h * 0.3))
        flap = boxes([[-w, 0, 0]], [[w, d * 0.9, 0.006]])
        piece.add(body, flap.turned("x", -35).moved(0, d, h - 0.005), flap.turned("x", -50).turned("z", 180).moved(0, -d, h - 0.005))
    else:
        piece.box(body, (-w, w), (-d, d), (0, h))
        lid = kit.material("paper", "plastic") if kit.chance(0.5) else body
        piece.box(lid, (-w - 0.006, w + 0.006), (-d - 0.006, d + 0.006), (h * 0.82, h + 0.005))
    return piece


def basket(kit: Kit) -> Piece:
    """A round or square basket, at times with a handle."""
    radius, height = kit.uniform(0.12, 0.24), kit.uniform(0.14, 0.36)
    body = kit.material("wicker", "wicker", "fabric", "plastic")
    piece = kit.piece("basket", (2 * radius, 2 * radius, height), body)
    foot = radius * kit.uniform(0.7, 0.95)
    segments = kit.choose(4, 18, 18)
    piece.add(
        body, lathe([(0, 0), (foot, 0), (radius, height), (radius * 0.9, height), (foot * 0.85, 0.03), (0, 0.03)], segments).turned("z", 45)
    )
    if kit.chance(0.4):
        angle = np.linspace(0, np.pi, 8)
        points = np.stack([radius * 0.95 * np.cos(angle), 0 * angle, height + radius * 0.8 * np.sin(angle)], -1)
        piece.add(body, *(bar(p, q, 0.008, 5) for p, q in itertools.pairwise(points)))
    return piece


def clock(kit: Kit, radius: float) -> Piece:
    """A round clock whose face looks towards +y; origin at the lower rim."""
    rim = kit.material("metal", "wood", "plastic")
    light = kit.chance(0.7)
    face, ink = ((0.93, 0.92, 0.88), (0.08, 0.08, 0.08)) if light else (materials.any_color(kit.rng), (0.95, 0.95, 0.92))
    piece = kit.piece("clock", (2 * radius, 0.05, 2 * radius), rim)
    piece.word = "round"
    piece.add(
        rim,
        lathe([(0, 0), (radius, 0), (radius, 0.035), (radius * 0.9, 0.035), (radius * 0.9, 0.02)], 24)
        .turned("x", -90)
        .moved(0, -0.025, radius),
    )
    dial = kit.table.add(materials.fitted("dial", kit.rng, (face, face, ink), (2 * radius, 2 * radius)))
    disc = lathe([(0, 0), (radius * 0.92, 0)], 24)
    disc = Mesh(disc.points_V3, -disc.normals_V3, disc.points_V3[:, :2] * [-1, 1] + radius, disc.triangles_M3[:, ::-1])
    piece.add(dial, disc.turned("z", 180).turned("x", -90).moved(0, -0.002, radius))
    return piece


def _screen(kit: Kit, size: tuple[float, float], on: bool) -> int:
    if not on:
        black = materials.linear((0.04, 0.04, 0.05))
        return kit.table.add(materials.Material(0, (black, black, black), (1, 1), gloss=0.25, mode=materials.SCREEN))
    colors = tuple(materials.any_color(kit.rng) for _ in range(3))
    return kit.table.add(
        materials.fitted(kit.choose("picture", "picture", "poster"), kit.rng, colors, size, glow=1.1, mode=materials.SCREEN)
    )


def _panel(kit: Kit, piece: Piece, width: float, height: float, low: float, on: bool) -> None:
    """A flat screen standing at y = 0 with a thin dark case."""
    case = kit.material("plastic", "metal")
    rim, glass_width, glass_height = 0.012, width - 0.024, height - 0.024
    piece.box(case, (-width / 2, width / 2), (-0.03, 0.008), (low, low + height), 0.006)
    screen = _screen(kit, (glass_width, glass_height), on)
    piece.add(screen, quad((width / 2 - rim, 0.0095, low + rim), (-glass_width, 0, 0), (0, 0, glass_height)))


def television(kit: Kit, on_wall: bool) -> Piece:
    """A flat television with a foot, or to be hung."""
    width = kit.uniform(0.8, 1.4)
    height, low = width * 0.57, 0.0 if on_wall else 0.07
    piece = Piece("television", (width, 0.24, height + low))
    _panel(kit, piece, width, height, low, kit.chance(0.6))
    if not on_wall:
        foot = kit.material("plastic", "metal")
        piece.box(foot, (-0.18, 0.18), (-0.1, 0.1), (0, 0.012))
        piece.box(foot, (-0.04, 0.04), (-0.03, -0.01), (0.012, 0.1))
    return piece


def monitor(kit: Kit) -> Piece:
    """A computer screen on a foot."""
    width = kit.uniform(0.46, 0.66)
    height, low = width * kit.uniform(0.56, 0.66), kit.uniform(0.08, 0.14)
    piece = Piece("monitor", (width, 0.22, height + low))
    _panel(kit, piece, width, height, low, kit.chance(0.7))
    foot = kit.material("plastic", "metal")
    piece.add(foot, cylinder(0.1, 0, 0.012, 16), cylinder(0.02, 0.012, low + 0.1, 8).moved(0, -0.045))
    return piece


def keyboard(kit: Kit) -> Piece:
    """A keyboard, part of a computer."""
    colors = (
        ((0.12, 0.12, 0.13), (0.3, 0.3, 0.32), (0.1, 0.1, 0.1))
        if kit.chance(0.6)
        else ((0.6, 0.6, 0.6), (0.92, 0.92, 0.9), (0.1, 0.1, 0.1))
    )
    piece = Piece("computer", (0.42, 0.14, 0.025))
    case = kit.material("plastic", "metal")
    piece.box(case, (-0.21, 0.21), (-0.07, 0.07), (0, 0.016))
    piece.add(
        kit.table.add(materials.fitted("keys", kit.rng, colors, (0.4, 0.13))), quad((-0.2, -0.065, 0.0165), (0.4, 0, 0), (0, 0.13, 0))
    )
    return piece


def laptop(kit: Kit) -> Piece:
    """An open laptop; its screen looks towards +y."""
    case = kit.material("metal", "plastic")
    piece = kit.piece("computer", (0.36, 0.28, 0.24), case)
    piece.word = ""
    colors = ((0.2, 0.2, 0.21), (0.08, 0.08, 0.09), (0.1, 0.1, 0.1))
    piece.box(case, (-0.17, 0.17), (-0.12, 0.12), (0, 0.016), 0.003)
    piece.add(
        kit.table.add(materials.fitted("keys", kit.rng, colors, (0.3, 0.11))), quad((-0.15, -0.08, 0.0165), (0.3, 0, 0), (0, 0.11, 0))
    )
    lean = kit.uniform(8, 28)
    screen = _screen(kit, (0.32, 0.2), kit.chance(0.75))
    lid = boxes([[-0.17, -0.005, 0]], [[0.17, 0.0, 0.225]])
    piece.add(case, lid.turned("x", lean).moved(0, -0.12, 0.012))
    piece.add(screen, quad((0.16, 0.0012, 0.012), (-0.32, 0, 0), (0, 0, 0.2)).turned("x", lean).moved(0, -0.12, 0.012))
    return piece
