"""Cabinets, wardrobes, bookcases, shelves with books, and a kitchen."""

from __future__ import annotations

import itertools

import numpy as np

from tips_bench.rooms.drawing import materials
from tips_bench.rooms.drawing.mesh import bar, boxes, cylinder, lathe, quad
from tips_bench.rooms.drawing.piece import Kit, Piece, Top
from tips_bench.rooms.scene.furniture import legs


def fronts(kit: Kit, piece: Piece, material: int, area: tuple[float, float, float, float], front: float, columns: int, rows: int) -> None:
    """Doors or drawer fronts in a grid over area (x0, x1, z0, z1), with gaps, frames and handles."""
    x0, x1, z0, z1 = area
    handle = kit.material("metal", "wood", "plastic")
    style, framed = kit.choose("knob", "bar", "none"), kit.chance(0.35)
    for c in range(columns):
        for r in range(rows):
            a, b = x0 + (x1 - x0) * c / columns + 0.004, x0 + (x1 - x0) * (c + 1) / columns - 0.004
            low, high = z0 + (z1 - z0) * r / rows + 0.004, z0 + (z1 - z0) * (r + 1) / rows - 0.004
            piece.box(material, (a, b), (front, front + 0.018), (low, high), 0.003)
            if framed:
                rim = 0.05
                for x, z in (
                    ((a, a + rim), (low, high)),
                    ((b - rim, b), (low, high)),
                    ((a, b), (low, low + rim)),
                    ((a, b), (high - rim, high)),
                ):
                    piece.box(material, x, (front + 0.018, front + 0.026), z)
            _handle(piece, handle, style, (a, b), (low, high), front + 0.018, c % 2 == 0)


def _handle(piece: Piece, material: int, style: str, x: tuple[float, float], z: tuple[float, float], front: float, right: bool) -> None:
    wide = x[1] - x[0] > 1.2 * (z[1] - z[0])
    cx = (x[0] + x[1]) / 2 if wide else (x[1] - 0.05 if right else x[0] + 0.05)
    cz = (z[0] + z[1]) / 2
    if style == "knob":
        piece.add(material, lathe([(0.008, 0), (0.018, 0.015), (0, 0.028)], 8).turned("x", -90).moved(cx, front, cz))
    elif style == "bar":
        half = min(0.08, (x[1] - x[0]) / 3) if wide else min(0.08, (z[1] - z[0]) / 3)
        dx, dz = (half, 0.007) if wide else (0.007, half)
        piece.box(material, (cx - dx, cx + dx), (front + 0.012, front + 0.026), (cz - dz, cz + dz))


def cabinet(kit: Kit, size: tuple[float, float, float] | None = None, kind: str = "cabinet") -> Piece:
    """A sideboard, chest of drawers, bedside cabinet or TV bench."""
    if size is None:
        size = kit.choose(
            (kit.uniform(1.0, 1.8), kit.uniform(0.38, 0.5), kit.uniform(0.6, 0.95)),
            (kit.uniform(0.7, 1.1), kit.uniform(0.4, 0.5), kit.uniform(0.8, 1.25)),
        )
    width, depth, height = size
    body = kit.material("wood", "painted", "wood")
    face = body if kit.chance(0.6) else kit.material("wood", "painted")
    piece = kit.piece(kind, size, face)
    half, deep = width / 2, depth / 2 - 0.02
    foot = kit.uniform(0.0, 0.18) if height > 0.35 else 0.03
    if foot > 0.06:
        legs(kit, piece, kit.material("wood", "metal"), (half - 0.06, deep - 0.06), foot, kit.choose("tapered", "square", "splayed"), 0.022)
    else:
        piece.box(body, (-half + 0.03, half - 0.03), (-deep, deep - 0.04), (0, foot))
    piece.box(body, (-half, half), (-depth / 2, deep), (foot, height - 0.02))
    piece.box(body, (-half - 0.01, half + 0.01), (-depth / 2, depth / 2), (height - 0.022, height), 0.004)
    columns = max(1, round(width / kit.uniform(0.38, 0.6)))
    rows = max(1, round((height - foot) / kit.uniform(0.2, 0.75)))
    fronts(kit, piece, face, (-half + 0.012, half - 0.012, foot + 0.012, height - 0.03), deep, columns, min(rows, 5))
    piece.tops.append(Top(-half + 0.05, half - 0.05, -depth / 2 + 0.05, depth / 2 - 0.05, height))
    return piece


def bedside(kit: Kit) -> Piece:
    """The small cabinet beside a bed."""
    return cabinet(kit, (kit.uniform(0.38, 0.55), kit.uniform(0.34, 0.42), kit.uniform(0.42, 0.62)))


def tv_bench(kit: Kit) -> Piece:
    """The low cabinet under a television."""
    return cabinet(kit, (kit.uniform(1.1, 1.9), kit.uniform(0.35, 0.45), kit.uniform(0.32, 0.55)))


def wardrobe(kit: Kit) -> Piece:
    """A tall cupboard for clothes."""
    doors = kit.count(2, 4)
    width, depth, height = doors * kit.uniform(0.4, 0.55), kit.uniform(0.52, 0.64), kit.uniform(1.85, 2.2)
    body = kit.material("wood", "painted")
    face = body if kit.chance(0.6) else kit.material("wood", "painted")
    piece = kit.piece("wardrobe", (width, depth, height), face)
    half = width / 2
    piece.box(body, (-half, half), (-depth / 2, depth / 2 - 0.02), (0, height))
    if kit.chance(0.4):
        piece.box(body, (-half - 0.03, half + 0.03), (-depth / 2, depth / 2 + 0.03), (height, height + 0.05), 0.01)
    base = kit.choose(0.08, 0.08, 0.5)
    fronts(kit, piece, face, (-half + 0.01, half - 0.01, base, height - 0.01), depth / 2 - 0.02, doors, 1)
    if base > 0.1:
        fronts(kit, piece, face, (-half + 0.01, half - 0.01, 0.08, base), depth / 2 - 0.02, max(1, doors // 2), kit.count(1, 2))
    piece.tops.append(Top(-half + 0.05, half - 0.05, -depth / 2 + 0.05, depth / 2 - 0.08, height + 0.05, 0.3))
    return piece


def book_materials(kit: Kit, count: int = 7) -> list[int]:
    """Covers for a set of books."""
    covers = []
    for _ in range(count):
        base = materials.any_color(kit.rng)
        ink = materials.shade(base, 2.2 if sum(base) < 1.2 else 0.3, kit.rng, 0.08)
        covers.append(kit.table.add(materials.fitted("spine", kit.rng, (base, materials.any_color(kit.rng), ink), (0.24, 0.04))))
    return covers


def book_row(kit: Kit, width: float, height: float, depth: float, covers: list[int]) -> Piece:
    """Upright books side by side, backs to the front, the last one at times leaning; one instance."""
    piece = Piece("book", (width, depth, height), "", kit.table.items[covers[0]].color)
    thickness = kit.rng.uniform(0.015, 0.05, max(2, int(width / 0.018)))
    edge = np.concatenate([[0], np.cumsum(thickness)])
    count = max(1, int(np.searchsorted(edge, width)) - 1)
    tall = height * kit.rng.uniform(0.68, 0.97, count) * kit.uniform(0.85, 1.0)
    deep = depth * kit.rng.uniform(0.7, 1.0, count)
    low = np.stack([edge[:count] - width / 2, np.full(count, -depth / 2), np.zeros(count)], -1)
    high = np.stack([edge[1 : count + 1] - width / 2 - 0.001, deep - depth / 2, tall], -1)
    chosen = np.array(covers)[kit.rng.integers(0, len(covers), count)]
    mesh = boxes(low, high)
    piece.meshes.append((mesh, np.repeat(chosen, 12)))
    gap = width - edge[count]
    if kit.chance(0.4) and gap > 0.05:
        lean = boxes([[0, -depth / 2, 0]], [[0.025, depth * 0.3, height * 0.75]]).turned("y", -12)
        piece.add(int(chosen[0]), lean.moved(edge[count] - width / 2 + 0.02 + 0.012))
    return piece


def book_pile(kit: Kit) -> Piece:
    """Books lying on each other; one instance."""
    covers = book_materials(kit, 4)
    piece = Piece("book", (0.28, 0.22, 0.15), "", kit.table.items[covers[0]].color)
    z = 0.0
    for _ in range(kit.count(1, 5)):
        w, d, t = kit.uniform(0.18, 0.28), kit.uniform(0.13, 0.2), kit.uniform(0.015, 0.045)
        piece.add(covers[kit.count(0, 3)], boxes([[-w / 2, -d / 2, 0]], [[w / 2, d / 2, t]]).turned("z", kit.uniform(-18, 18)).moved(z=z))
        z += t
    return piece


def bookcase(kit: Kit) -> Piece:
    """Open shelves with rows of books; free stretches are left for other things."""
    width, depth, height = (
        kit.uniform(0.6, 1.3),
        kit.uniform(0.26, 0.36),
        kit.choose(kit.uniform(0.8, 1.3), kit.uniform(1.6, 2.2), kit.uniform(1.6, 2.2)),
    )
    body = kit.material("wood", "painted", "wood")
    piece = kit.piece("bookcase", (width, depth, height), body)
    half, deep, wall = width / 2, depth / 2, 0.025
    for x in (-half, half - wall):
        piece.box(body, (x, x + wall), (-deep, deep), (0, height))
    piece.box(body, (-half, half), (-deep, -deep + 0.01), (0.04, height))
    rows = max(2, round(height / kit.uniform(0.3, 0.42)))
    levels = np.linspace(0.05, height - wall, rows + 1)
    for z in levels:
        piece.box(body, (-half, half), (-deep, deep), (z, z + wall))
    covers = book_materials(kit, 9)
    for low, high in itertools.pairwise(levels):
        _fill_row(kit, piece, covers, (-half + wall, half - wall), low + wall, high - low - wall, depth)
    piece.tops.append(Top(-half + 0.05, half - 0.05, -deep + 0.05, deep - 0.05, height, 0.4))
    return piece


def _fill_row(kit: Kit, piece: Piece, covers: list[int], x: tuple[float, float], z: float, height: float, depth: float) -> None:
    draw, at = kit.rng.random(), x[0] + 0.01
    if draw < 0.1:
        return
    span = (x[1] - x[0]) * (1.0 if draw < 0.45 else kit.uniform(0.35, 0.8)) - 0.02
    piece.carry(book_row(kit, span, height * 0.95, depth * 0.8, covers), at + span / 2, -0.01, z)
    free = x[1] - at - span
    if free > 0.2:
        piece.tops.append(Top(at + span + 0.04, x[1] - 0.03, -depth / 2 + 0.06, depth / 2 - 0.06, z, height - 0.02))


def wall_shelf(kit: Kit) -> Piece:
    """One to three boards on a wall, some with books."""
    width, depth = kit.uniform(0.6, 1.4), kit.uniform(0.18, 0.28)
    board = kit.material("wood", "painted", "metal")
    count = kit.count(1, 3)
    gap = kit.uniform(0.28, 0.38)
    piece = kit.piece("shelf", (width, depth, gap * count), board)
    covers = book_materials(kit, 6)
    for i in range(count):
        z = gap * i
        piece.box(board, (-width / 2, width / 2), (-depth / 2, depth / 2), (z, z + 0.025))
        if kit.chance(0.6):
            span = width * kit.uniform(0.3, 0.75)
            at = kit.uniform(-width / 2 + span / 2, width / 2 - span / 2)
            piece.carry(book_row(kit, span, gap * 0.85, depth * 0.8, covers), at, 0, z + 0.025)
            if width / 2 - at - span / 2 > 0.2:
                piece.tops.append(Top(at + span / 2 + 0.04, width / 2 - 0.03, -depth / 2 + 0.05, depth / 2 - 0.05, z + 0.025, gap - 0.05))
        else:
            piece.tops.append(Top(-width / 2 + 0.06, width / 2 - 0.06, -depth / 2 + 0.05, depth / 2 - 0.05, z + 0.025, gap - 0.05))
    return piece


def kitchen_unit(kit: Kit, width: float, face: int, work: int, sink: bool) -> Piece:
    """Base cabinets with a countertop, at times with a sink and tap."""
    depth, height = 0.6, 0.87
    piece = kit.piece("cabinet", (width, depth, height), face)
    piece.box(face, (-width / 2, width / 2), (-0.3, 0.26), (0.1, height))
    piece.box(face, (-width / 2, width / 2), (-0.3, 0.22), (0, 0.1))
    fronts(kit, piece, face, (-width / 2, width / 2, 0.1, height - 0.01), 0.26, max(1, round(width / 0.5)), kit.count(1, 2))
    top = kit.piece("countertop", (width, depth, 0.04), work)
    top.box(work, (-width / 2, width / 2), (-0.3, 0.3), (0, 0.04), 0.004)
    if sink:
        steel = kit.material("metal")
        top.box(steel, (-0.24, 0.24), (-0.18, 0.2), (0.035, 0.044))
        top.box(kit.material("metal"), (-0.2, 0.2), (-0.12, 0.17), (0.04, 0.0455))
        top.add(steel, cylinder(0.014, 0.04, 0.3, 8).moved(0, -0.22), bar((0, -0.22, 0.3), (0, -0.06, 0.27), 0.012))
        top.tops.append(Top(-width / 2 + 0.06, -0.28, -0.22, 0.22, 0.04))
    else:
        top.tops.append(Top(-width / 2 + 0.06, width / 2 - 0.06, -0.22, 0.22, 0.04))
    piece.carry(top, 0, 0, height)
    return piece


def wall_unit(kit: Kit, width: float, face: int) -> Piece:
    """Cabinets hung above a worktop."""
    height = kit.uniform(0.5, 0.75)
    piece = kit.piece("cabinet", (width, 0.34, height), face)
    piece.box(face, (-width / 2, width / 2), (-0.17, 0.15), (0, height))
    fronts(kit, piece, face, (-width / 2, width / 2, 0, height), 0.15, max(1, round(width / 0.5)), 1)
    return piece


def stove(kit: Kit) -> Piece:
    """A cooker with oven door and four rings."""
    body, dark = kit.material("metal", "painted"), materials.linear((0.06, 0.06, 0.07))
    piece = kit.piece("stove", (0.6, 0.6, 0.9), body)
    piece.word = ""
    piece.box(body, (-0.3, 0.3), (-0.3, 0.27), (0.05, 0.9))
    piece.box(body, (-0.29, 0.29), (0.27, 0.29), (0.12, 0.68), 0.005)
    glass = kit.table.add(materials.Material(0, (dark, dark, dark), (1, 1), gloss=0.2))
    piece.box(glass, (-0.22, 0.22), (0.29, 0.295), (0.22, 0.58))
    piece.box(kit.material("metal"), (-0.24, 0.24), (0.3, 0.32), (0.62, 0.64))
    for i in range(4):
        piece.add(kit.material("metal", "plastic"), cylinder(0.022, 0, 0.03, 8).turned("x", -90).moved(-0.2 + 0.133 * i, 0.27, 0.78))
    rings = materials.fitted("hob", kit.rng, ((0.08, 0.08, 0.09), (0.4, 0.4, 0.42), (0.3, 0.3, 0.3)), (0.58, 0.55), gloss=0.15)
    piece.add(kit.table.add(rings), quad((-0.29, -0.29, 0.903), (0.58, 0, 0), (0, 0.55, 0)))
    if kit.chance(0.5):
        piece.box(body, (-0.3, 0.3), (-0.3, -0.26), (0.9, 1.05))
    return piece


def refrigerator(kit: Kit) -> Piece:
    """A tall fridge with one or two doors and long handles."""
    width, depth, height = kit.uniform(0.58, 0.85), kit.uniform(0.6, 0.7), kit.uniform(1.5, 1.95)
    shell = kit.material("metal", "painted", "painted")
    piece = kit.piece("refrigerator", (width, depth, height), shell)
    piece.word = ""
    half, front = width / 2, depth / 2 - 0.06
    piece.box(shell, (-half, half), (-depth / 2, front), (0.02, height))
    split = height * kit.choose(0.35, 0.62, 0.7)
    handle, side = kit.material("metal", "plastic"), kit.choose(-1, 1)
    for low, high in ((0.05, split), (split, height)):
        piece.box(shell, (-half, half), (front + 0.006, front + 0.05), (low + 0.004, high - 0.004), 0.012)
        x, middle = side * (half - 0.06), (low + high) / 2
        piece.box(handle, (x - 0.012, x + 0.012), (front + 0.06, front + 0.085), (middle - 0.16, middle + 0.16))
    piece.tops.append(Top(-half + 0.08, half - 0.08, -depth / 2 + 0.1, front - 0.05, height, 0.35))
    return piece
