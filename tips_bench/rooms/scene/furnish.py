"""Living rooms, bedrooms, kitchens, dining rooms, offices and studies drawn from a seed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tips_bench.rooms.drawing import materials
from tips_bench.rooms.drawing.assembly import Scene
from tips_bench.rooms.drawing.mesh import rotate
from tips_bench.rooms.drawing.piece import Kit, Piece
from tips_bench.rooms.scene import clutter, fixtures, furniture, storage
from tips_bench.rooms.scene.decorate import dress, dress_walls, scatter
from tips_bench.rooms.scene.shell import YAW, Shell, build_shell


def _around(shell: Shell, piece: Piece, x: float, y: float, yaw: float, seats: int) -> None:
    """Chairs of one make round a table, facing it, each pulled out and turned a little."""
    kit = shell.kit
    width, depth = piece.size[0] / 2, piece.size[1] / 2
    places = [(0.0, depth, 180.0), (0.0, -depth, 0.0), (width, 0.0, 90.0), (-width, 0.0, 270.0)]
    if piece.size[0] > 1.35:
        sides = [(0.5 * sx * width, sy * depth, 180.0 if sy > 0 else 0.0) for sy in (1, -1) for sx in (-1, 1)]
        places = sides + places[2:]
    make = furniture.chair(kit)
    for px, py, turn in places[:seats]:
        pull = 1 + kit.uniform(0.0, 0.22) / (width if turn in (90.0, 270.0) else depth)
        chair = dress(kit, replace(make, children=[]), 0.3)
        along = (px * pull, py, 0.0) if turn in (90.0, 270.0) else (px, py * pull, 0.0)
        dx, dy, _ = rotate(np.array([along]), "z", yaw)[0]
        shell.set_down(chair, x + dx, y + dy, yaw + turn + kit.uniform(-12, 12), reserve=False)


def _rug(shell: Shell, x: float, y: float, width: float, depth: float, yaw: float) -> None:
    kit = shell.kit
    turned = abs(np.cos(np.radians(yaw))) < 0.5
    room = shell.size[1 if turned else 0], shell.size[0 if turned else 1]
    shell.assembly.put(fixtures.rug(kit, min(width, room[0] - 0.3), min(depth, room[1] - 0.3)), (x, y, 0.001), yaw)


def _living(shell: Shell) -> None:
    kit = shell.kit
    main = furniture.sofa(kit)
    found = shell.stand_somewhere(main, 1.2)
    if found:
        wall, s = found
        low = furniture.table(kit, "coffee table")
        x, y = shell.spot(wall, s, main.size[1] + 0.45 + low.size[1] / 2)
        if kit.chance(0.75):
            cx, cy = shell.spot(wall, s, main.size[1] + 0.6)
            _rug(shell, cx, cy, kit.uniform(1.8, 2.8), kit.uniform(1.3, 1.9), YAW[wall])
        shell.set_down(dress(kit, low, 0.8), x, y, YAW[wall])
        bench = storage.tv_bench(kit)
        bench.carry(clutter.television(kit, False), 0, 0, bench.size[2], 0)
        bench.tops.clear()
        opposite = (wall + 2) % 4
        if not shell.stand(bench, opposite, shell.length(opposite) - s, 0.03, 0.4):
            shell.stand_somewhere(bench, 0.4)
        for side in (-1, 1):
            if kit.chance(0.6):
                seat = furniture.armchair(kit)
                x, y = shell.spot(wall, s + side * (main.size[0] / 2 + 0.55), main.size[1] + 0.75)
                shell.set_down(seat, x, y, YAW[wall] + side * kit.uniform(60, 110))
    if kit.chance(0.7):
        shell.stand_somewhere(dress(kit, storage.bookcase(kit), 0.7), 0.3)
    if kit.chance(0.6):
        shell.stand_somewhere(dress(kit, storage.cabinet(kit), 0.8), 0.3)


def _bedroom(shell: Shell) -> None:
    kit = shell.kit
    bed = furniture.bed(kit)
    found = shell.stand_somewhere(dress(kit, bed, 0.5), 0.3, tries=30)
    if found:
        wall, s = found
        if kit.chance(0.6):
            x, y = shell.spot(wall, s, 1.5)
            _rug(shell, x, y, bed.size[0] + kit.uniform(0.6, 1.4), kit.uniform(1.2, 2.0), YAW[wall])
        for side in (-1, 1):
            small = dress(kit, storage.bedside(kit), 0.9)
            shell.stand(small, wall, s + side * (bed.size[0] / 2 + small.size[0] / 2 + 0.06))
    if kit.chance(0.8):
        shell.stand_somewhere(dress(kit, storage.wardrobe(kit), 0.5), 0.4)
    if kit.chance(0.6):
        shell.stand_somewhere(dress(kit, storage.cabinet(kit), 0.8), 0.3)
    if kit.chance(0.4):
        _desk(shell)
    if kit.chance(0.4):
        shell.stand_somewhere(dress(kit, furniture.armchair(kit) if kit.chance(0.5) else furniture.stool(kit), 0.3), 0.2)


def _desk(shell: Shell) -> None:
    kit = shell.kit
    desk = furniture.desk(kit)
    found = shell.stand_somewhere(dress(kit, desk, 0.8), 0.7)
    if found:
        x, y = shell.spot(found[0], found[1] + kit.uniform(-0.15, 0.15), desk.size[1] + kit.uniform(0.1, 0.35))
        shell.set_down(furniture.chair(kit), x, y, YAW[found[0]] + 180 + kit.uniform(-35, 35))


def _kitchen(shell: Shell) -> None:
    kit = shell.kit
    face, work = kit.material("wood", "painted", "painted"), kit.material("wood", "ceramic", "painted")
    wall = max(range(4), key=lambda k: _longest_free(shell, k)[1] - _longest_free(shell, k)[0])
    low, high = _longest_free(shell, wall)
    at, hung = low + 0.03, kit.chance(0.85)
    order: list[str] = ["fridge", "unit", "stove", "sink", "unit"] if kit.chance(0.5) else ["sink", "stove", "unit", "fridge", "unit"]
    for name in order:
        if name == "fridge":
            piece = dress(kit, storage.refrigerator(kit), 0.7)
        elif name == "stove":
            piece = storage.stove(kit)
        else:
            piece = dress(kit, storage.kitchen_unit(kit, kit.uniform(0.7, 1.2), face, work, name == "sink"), 0.9)
        while at + piece.size[0] <= high and not shell.stand(piece, wall, at + piece.size[0] / 2, 0.01, 0.35):
            at += 0.1
        if at + piece.size[0] > high:
            continue
        s = at + piece.size[0] / 2
        at += piece.size[0] + 0.004
        upper = (s - piece.size[0] / 2, s + piece.size[0] / 2, 1.4, 2.1)
        if hung and name in ("unit", "sink") and shell.wall_is_free(wall, upper, 0.0):
            shell.hang(storage.wall_unit(kit, piece.size[0], face), wall, s, 1.42, 0.17)
            shell.taken_wall[wall].append(upper)
    _table_group(shell)
    if kit.chance(0.5):
        shell.stand_somewhere(dress(kit, storage.cabinet(kit), 0.9), 0.3)
    if kit.chance(0.4):
        shell.stand_somewhere(furniture.stool(kit), 0.1)


def _longest_free(shell: Shell, wall: int) -> tuple[float, float]:
    """The longest stretch of a wall without a door or a low window or curtain before it."""
    blocks = sorted((r[0], r[1]) for r in shell.taken_wall[wall] if r[2] < 0.9)
    best, at = (0.0, 0.0), 0.05
    for a, b in [*blocks, (shell.length(wall) - 0.05, 0.0)]:
        if a - at > best[1] - best[0]:
            best = (at, a)
        at = max(at, b)
    return best


def _table_group(shell: Shell) -> None:
    kit, (width, depth, _) = shell.kit, shell.size
    table = dress(kit, furniture.table(kit), 1.0)
    yaw = 0.0 if kit.chance(0.5) else 90.0
    for _ in range(20):
        x, y = kit.uniform(1.1, width - 1.1), kit.uniform(1.1, depth - 1.1)
        half = np.array(table.size[:2])[:: 1 if yaw == 0 else -1] / 2 + 0.5
        if shell.floor_is_free((x - half[0], x + half[0], y - half[1], y + half[1])):
            if kit.chance(0.4):
                _rug(shell, x, y, table.size[0] + 1.0, table.size[1] + 1.0, yaw)
            _around(shell, table, x, y, yaw, kit.count(2, 6))
            shell.set_down(table, x, y, yaw)
            return


def _dining(shell: Shell) -> None:
    kit = shell.kit
    _table_group(shell)
    for _ in range(kit.count(1, 3)):
        maker = kit.choose(storage.cabinet, storage.bookcase, storage.cabinet)
        shell.stand_somewhere(dress(kit, maker(kit), 0.9), 0.4)
    if kit.chance(0.4):
        shell.stand_somewhere(furniture.armchair(kit), 0.3)


def _office(shell: Shell) -> None:
    kit = shell.kit
    for _ in range(kit.count(1, 3)):
        _desk(shell)
    for _ in range(kit.count(1, 2)):
        shell.stand_somewhere(dress(kit, storage.bookcase(kit), 0.8), 0.3)
    if kit.chance(0.6):
        shell.stand_somewhere(dress(kit, storage.cabinet(kit), 0.8), 0.3)
    if kit.chance(0.4):
        shell.stand_somewhere(furniture.armchair(kit), 0.3)


def _study(shell: Shell) -> None:
    """A reading room: books, an armchair or two, a small sofa, a lamp."""
    kit = shell.kit
    for _ in range(kit.count(2, 3)):
        shell.stand_somewhere(dress(kit, storage.bookcase(kit), 0.7), 0.4)
    _rug(shell, shell.size[0] / 2, shell.size[1] / 2, kit.uniform(1.6, 2.6), kit.uniform(1.2, 2.0), 0.0)
    if kit.chance(0.5):
        shell.stand_somewhere(dress(kit, furniture.sofa(kit), 0.5), 0.5)
    for _ in range(kit.count(1, 2)):
        shell.stand_somewhere(furniture.armchair(kit), 0.3)
    shell.stand_somewhere(clutter.floor_lamp(kit, kit.chance(0.7)))
    if kit.chance(0.5):
        _desk(shell)


ROOMS: dict[str, Callable[[Shell], None]] = {
    "living room": _living, "bedroom": _bedroom, "kitchen": _kitchen, "dining room": _dining, "office": _office, "reading room": _study,
}  # fmt: skip


def build_scene(rng: np.random.Generator) -> Scene:
    """A furnished room of a drawn kind; the same generator state gives the same room."""
    kind = list(ROOMS)[int(rng.integers(0, len(ROOMS)))]
    kit = Kit(rng, materials.Theme.draw(rng), materials.MaterialTable())
    size = (kit.uniform(3.3, 5.8), kit.uniform(3.2, 5.2), kit.uniform(2.4, 2.9))
    shell = build_shell(kit, size, kit.chance(0.15), kind == "kitchen")
    ROOMS[kind](shell)
    dress_walls(shell)
    scatter(shell, kit.count(1, 4))
    lit = shell.night or kit.chance(0.5)
    drop = min(kit.uniform(0.35, 0.8), size[2] - 1.9)
    lamp = clutter.ceiling_light(kit, lit, drop)
    shell.assembly.put(lamp, (size[0] / 2 + kit.uniform(-0.5, 0.5), size[1] / 2 + kit.uniform(-0.5, 0.5), size[2] - 0.001))
    warm = np.array(materials.linear((1.0, 0.9, 0.78))) if shell.night else np.array(materials.linear((1.0, 0.97, 0.94)))
    return shell.assembly.scene(kind, size, warm * kit.uniform(0.35, 0.6))
