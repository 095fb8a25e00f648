"""What hangs on or belongs to the shell of a room: windows, doors, curtains, pictures, mirrors, rugs.

Things on a wall have their back at y = 0 and look towards +y; z is measured from their own lower edge.
"""

from __future__ import annotations

import numpy as np

from tips_bench.rooms.drawing import materials
from tips_bench.rooms.drawing.mesh import bar, drape, lathe, quad
from tips_bench.rooms.drawing.piece import Kit, Piece


def window(kit: Kit, width: float, height: float, reveal: float, frame: int, sky: int) -> Piece:
    """Frame, sill and panes in an opening; the glass stands `reveal` metres behind the wall's face."""
    piece = Piece("window", (width, reveal, height))
    half, rim, back = width / 2, 0.05, -reveal
    for span, z in (
        ((-half, half), (0, rim)),
        ((-half, half), (height - rim, height)),
        ((-half, -half + rim), (0, height)),
        ((half - rim, half), (0, height)),
    ):
        piece.box(frame, span, (back, back + 0.06), z)
    for i in range(1, columns := kit.count(1, 3)):
        x = -half + width * i / columns
        piece.box(frame, (x - 0.025, x + 0.025), (back, back + 0.055), (0, height))
    for i in range(1, rows := kit.count(1, 3)):
        level = height * i / rows
        piece.box(frame, (-half, half), (back, back + 0.045), (level - 0.018, level + 0.018))
    piece.add(sky, quad((half, back + 0.01, 0), (-width, 0, 0), (0, 0, height)))
    if kit.chance(0.7):
        piece.box(frame, (-half - 0.06, half + 0.06), (back, 0.03), (-0.03, 0.0))
    return piece


def door(kit: Kit, width: float, height: float) -> Piece:
    """A closed door with its frame and handle: flush, panelled or with a glass light."""
    leaf, frame = kit.material("wood", "painted", "painted"), kit.material("wood", "painted")
    if kit.chance(0.6):
        frame = leaf
    piece = kit.piece("door", (width, 0.1, height), leaf)
    half = width / 2
    piece.box(leaf, (-half, half), (-0.02, 0.015), (0, height))
    for x in ((-half - 0.08, -half), (half, half + 0.08)):
        piece.box(frame, x, (-0.02, 0.035), (0, height + 0.08))
    piece.box(frame, (-half - 0.08, half + 0.08), (-0.02, 0.035), (height, height + 0.08))
    columns, rows = kit.choose((1, 2), (2, 2), (2, 3), (1, 1), (0, 0))
    inset = 0.11
    for c in range(columns):
        for r in range(rows):
            x0, x1 = (-half + inset + c * (width - inset) / columns, -half + (c + 1) * (width - inset) / columns)
            z0, z1 = (0.14 + r * (height - 0.2) / rows, 0.04 + (r + 1) * (height - 0.2) / rows)
            rim = 0.02
            for x, z in (((x0, x1), (z0, z0 + rim)), ((x0, x1), (z1 - rim, z1)), ((x0, x0 + rim), (z0, z1)), ((x1 - rim, x1), (z0, z1))):
                piece.box(leaf, x, (0.015, 0.027), z)
    knob, side = kit.material("metal"), kit.choose(-1, 1)
    at = side * (half - 0.07)
    if kit.chance(0.5):
        piece.add(knob, bar((at, 0.015, 1.02), (at, 0.06, 1.02), 0.01), bar((at, 0.06, 1.02), (at - side * 0.12, 0.06, 1.02), 0.011))
    else:
        piece.add(
            knob, lathe([(0.012, 0), (0.012, 0.03), (0.03, 0.045), (0.02, 0.065), (0, 0.068)], 12).turned("x", -90).moved(at, 0.015, 1.02)
        )
    return piece


def curtain(kit: Kit, width: float, height: float, cloth: int, gather: float) -> Piece:
    """One hanging curtain, its lower edge at z = 0."""
    piece = kit.piece("curtain", (width, 0.12, height), cloth)
    depth = kit.uniform(0.025, 0.045)
    piece.add(cloth, drape(width, height, max(2.0, width / kit.uniform(0.1, 0.18)), depth, kit.uniform(0, 6), gather).moved(0, 0.09))
    return piece


def rail(kit: Kit, width: float, material: int) -> Piece:
    """The pole of a pair of curtains; counts as curtain."""
    piece = kit.piece("curtain", (width, 0.08, 0.03), material)
    piece.add(material, bar((-width / 2, 0.09, 0), (width / 2, 0.09, 0), 0.014))
    return piece


def painting(kit: Kit) -> Piece:
    """A framed picture, print or poster."""
    width = kit.uniform(0.25, 1.1)
    height = float(np.clip(width * kit.choose(0.7, 1.0, 1.35, 0.55), 0.22, 0.95))
    rim, depth = kit.uniform(0.012, 0.06), kit.uniform(0.015, 0.035)
    frame = kit.material("wood", "metal", "painted")
    colors = tuple(materials.any_color(kit.rng) for _ in range(3))
    canvas = kit.table.add(materials.fitted(kit.choose("picture", "picture", "picture", "poster"), kit.rng, colors, (width, height)))
    piece = Piece("painting", (width, depth, height), "framed", kit.table.items[frame].color)
    _frame(piece, frame, width, height, rim, depth)
    piece.add(canvas, quad((width / 2, depth * 0.5, 0), (-width, 0, 0), (0, 0, height)))
    return piece


def _frame(piece: Piece, material: int, width: float, height: float, rim: float, depth: float) -> None:
    half = width / 2
    for span, z in (
        ((-half - rim, half + rim), (-rim, 0)),
        ((-half - rim, half + rim), (height, height + rim)),
        ((-half - rim, -half), (0, height)),
        ((half, half + rim), (0, height)),
    ):
        piece.box(material, span, (0.0, depth), z, 0.004)


def mirror(kit: Kit) -> Piece:
    """A framed looking glass, upright, wide or round."""
    frame = kit.material("wood", "metal", "painted")
    silver = materials.linear((0.9, 0.93, 0.92))
    glass = kit.table.add(materials.Material(0, (silver, silver, silver), (1, 1), mode=materials.MIRROR))
    if kit.chance(0.3):
        radius = kit.uniform(0.2, 0.4)
        piece = Piece("mirror", (2 * radius, 0.04, 2 * radius), "round", kit.table.items[frame].color)
        piece.add(
            frame,
            lathe([(radius * 0.93, 0), (radius * 1.06, 0), (radius * 1.06, 0.03), (radius * 0.95, 0.03), (radius * 0.95, 0.012)], 28)
            .turned("x", -90)
            .moved(0, 0, radius),
        )
        piece.add(glass, lathe([(0, 0.012), (radius * 0.96, 0.012)], 28).turned("x", -90).moved(0, 0, radius))
        return piece
    width, height = kit.choose((kit.uniform(0.4, 0.7), kit.uniform(0.7, 1.3)), (kit.uniform(0.8, 1.3), kit.uniform(0.5, 0.8)))
    piece = Piece("mirror", (width, 0.04, height), "framed", kit.table.items[frame].color)
    _frame(piece, frame, width, height, kit.uniform(0.015, 0.07), kit.uniform(0.02, 0.04))
    piece.add(glass, quad((width / 2, 0.012, 0), (-width, 0, 0), (0, 0, height)))
    return piece


def rug(kit: Kit, width: float, depth: float) -> Piece:
    """A rug lying on the floor: bordered, woven, or round."""
    thick = kit.uniform(0.008, 0.02)
    if kit.chance(0.25):
        cloth, radius = kit.material("fabric"), min(width, depth) / 2
        piece = kit.piece("rug", (2 * radius, 2 * radius, thick), cloth)
        piece.word = "round"
        piece.add(cloth, lathe([(0, 0), (radius, 0), (radius, thick), (0, thick)], 32))
        return piece
    colors = tuple(kit.theme.color(kit.rng) for _ in range(3))
    whole = kit.chance(0.6)
    cloth = kit.table.add(materials.fitted("rug", kit.rng, colors, (width, depth))) if whole else kit.material("fabric")
    piece = kit.piece("rug", (width, depth, thick), cloth)
    piece.word = "patterned" if whole else piece.word
    piece.box(cloth, (-width / 2, width / 2), (-depth / 2, depth / 2), (0, thick * 0.9))
    piece.add(cloth, quad((-width / 2, -depth / 2, thick), (width, 0, 0), (0, depth, 0)))
    return piece
