"""The empty room: walls with openings, floor, ceiling, windows, doors, daylight; and where along its walls things may go.

A wall is 0 south, 1 east, 2 north or 3 west; `s` is metres along it, to the right of one who looks at it from outside the room
(so that a piece's x, turned by the wall's yaw, runs along s), z is height.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from tips_bench.rooms.drawing import materials
from tips_bench.rooms.drawing.assembly import Assembly, Light
from tips_bench.rooms.drawing.materials import linear
from tips_bench.rooms.drawing.mesh import Mesh, quad, rotate
from tips_bench.rooms.drawing.piece import Kit, Piece
from tips_bench.rooms.scene import fixtures

YAW = (0.0, 90.0, 180.0, 270.0)
Rect = tuple[float, float, float, float]


def overlap(a: Rect, b: Rect, margin: float = 0.0) -> bool:
    """Whether two rectangles (low u, high u, low v, high v) come nearer than margin."""
    return a[0] < b[1] + margin and b[0] < a[1] + margin and a[2] < b[3] + margin and b[2] < a[3] + margin


@dataclass
class Shell:
    """A room being furnished. taken_floor: rectangles (x0, x1, y0, y1); taken_wall: per wall, rectangles (s0, s1, z0, z1)."""

    kit: Kit
    size: tuple[float, float, float]
    assembly: Assembly
    night: bool
    taken_floor: list[Rect] = field(default_factory=list)
    taken_wall: list[list[Rect]] = field(default_factory=lambda: [[], [], [], []])

    def length(self, wall: int) -> float:
        """Length of a wall in metres."""
        return self.size[wall % 2]

    def spot(self, wall: int, s: float, out: float = 0.0) -> tuple[float, float]:
        """World x, y of the point `s` along a wall and `out` metres before it."""
        width, depth, _ = self.size
        return ((s, out), (width - out, s), (width - s, depth - out), (out, depth - s))[wall]

    def footprint(self, wall: int, s: float, size: tuple[float, float], out: float) -> Rect:
        """The floor rectangle of a piece that stands at s, its back `out` metres before the wall."""
        (xa, ya), (xb, yb) = self.spot(wall, s - size[0] / 2, out), self.spot(wall, s + size[0] / 2, out + size[1])
        return min(xa, xb), max(xa, xb), min(ya, yb), max(ya, yb)

    def wall_is_free(self, wall: int, rect: Rect, margin: float = 0.05) -> bool:
        """Whether nothing hangs or stands before that part of a wall, and it lies within it."""
        inside = rect[0] >= 0.02 and rect[1] <= self.length(wall) - 0.02 and rect[3] <= self.size[2]
        return inside and not any(overlap(rect, other, margin) for other in self.taken_wall[wall])

    def floor_is_free(self, rect: Rect, margin: float = 0.04) -> bool:
        """Whether nothing stands on that rectangle, and it lies within the room."""
        width, depth, _ = self.size
        inside = rect[0] >= 0 and rect[1] <= width and rect[2] >= 0 and rect[3] <= depth
        return inside and not any(overlap(rect, other, margin) for other in self.taken_floor)

    def hang(self, piece: Piece, wall: int, s: float, z: float, out: float = 0.0) -> None:
        """Put a piece whose back is at y = 0 on a wall."""
        x, y = self.spot(wall, s, out)
        self.assembly.put(piece, (x, y, z), YAW[wall])

    def stand(self, piece: Piece, wall: int, s: float, out: float = 0.02, clear: float = 0.0) -> bool:
        """Stand a piece with its back to a wall if it fits; `clear` metres before it are kept free too."""
        rect = self.footprint(wall, s, (piece.size[0], piece.size[1] + clear), out)
        against = (s - piece.size[0] / 2, s + piece.size[0] / 2, 0.0, piece.size[2])
        if not self.floor_is_free(rect) or not self.wall_is_free(wall, against, 0.0):
            return False
        x, y = self.spot(wall, s, out + piece.size[1] / 2)
        self.assembly.put(piece, (x, y, 0.0), YAW[wall])
        self.taken_floor.append(self.footprint(wall, s, piece.size[:2], out))
        self.taken_wall[wall].append(against)
        return True

    def stand_somewhere(
        self, piece: Piece, clear: float = 0.0, walls: tuple[int, ...] = (0, 1, 2, 3), tries: int = 14
    ) -> tuple[int, float] | None:
        """Stand a piece against one of the walls wherever it fits: (wall, s), or None."""
        for _ in range(tries):
            wall = walls[int(self.kit.rng.integers(0, len(walls)))]
            room = self.length(wall) - piece.size[0] - 0.1
            if room <= 0:
                continue
            s = self.length(wall) / 2 + self.kit.uniform(-0.5, 0.5) * room
            if self.stand(piece, wall, s, self.kit.uniform(0.01, 0.05), clear):
                return wall, s
        return None

    def set_down(self, piece: Piece, x: float, y: float, yaw: float, reserve: bool = True) -> bool:
        """Put a piece on the floor away from walls if nothing is in the way."""
        turned = np.abs(rotate(np.array([[piece.size[0] / 2, 0, 0], [0, piece.size[1] / 2, 0]]), "z", yaw)).sum(0)
        rect = (x - turned[0], x + turned[0], y - turned[1], y + turned[1])
        if not self.floor_is_free(rect, 0.02):
            return False
        self.assembly.put(piece, (x, y, 0.0), yaw)
        if reserve:
            self.taken_floor.append(rect)
        return True


def _wall_mesh(length: float, height: float, openings: list[Rect]) -> Mesh:
    """A wall in its own frame (x along, y into the room, face at y = 0) with rectangular openings; uv runs over the whole wall."""
    us = sorted({0.0, length, *(o[0] for o in openings), *(o[1] for o in openings)})
    vs = sorted({0.0, height, *(o[2] for o in openings), *(o[3] for o in openings)})
    points, triangles = [], []
    for u0, u1 in itertools.pairwise(us):
        for v0, v1 in itertools.pairwise(vs):
            if any(o[0] <= u0 and u1 <= o[1] and o[2] <= v0 and v1 <= o[3] for o in openings):
                continue
            k = len(points)
            points += [(u0, 0, v0), (u0, 0, v1), (u1, 0, v1), (u1, 0, v0)]
            triangles += [(k, k + 1, k + 2), (k, k + 2, k + 3)]
    points_V3 = np.array(points, float)
    normals = np.broadcast_to(np.array([0.0, 1.0, 0.0]), points_V3.shape)
    return Mesh(points_V3, normals, points_V3[:, [0, 2]], np.array(triangles))


def _reveal(opening: Rect, deep: float) -> list[Mesh]:
    """The four inner sides of an opening, `deep` metres into the wall."""
    u0, u1, v0, v1 = opening
    return [quad((u0, 0, v0), (u1 - u0, 0, 0), (0, -deep, 0)), quad((u0, 0, v1), (0, -deep, 0), (u1 - u0, 0, 0)),
            quad((u0, 0, v0), (0, -deep, 0), (0, 0, v1 - v0)), quad((u1, 0, v0), (0, 0, v1 - v0), (0, -deep, 0))]  # fmt: skip


def build_shell(kit: Kit, size: tuple[float, float, float], night: bool, kitchen: bool) -> Shell:
    """Walls, floor and ceiling of a room with one or two windows and a door or two."""
    shell = Shell(kit, size, Assembly(kit.table), night)
    openings: list[list[Rect]] = [[], [], [], []]
    deep = kit.uniform(0.1, 0.25)
    door_wall = kit.count(0, 3)
    _add_door(shell, door_wall)
    window_walls = [(door_wall + k) % 4 for k in kit.rng.permutation(4)[: kit.count(1, 2)]]
    for wall in window_walls:
        _add_window(shell, wall, deep, openings)
    paint = kit.table.add(materials.wall_paint(kit.rng, kit.theme))
    accent = kit.table.add(materials.wall_paint(kit.rng, kit.theme)) if kit.chance(0.3) else paint
    trim = kit.material("painted", "wood")
    for wall in range(4):
        _add_wall(shell, wall, openings[wall], deep, accent if wall == 2 else paint, trim)
    _add_floor_and_ceiling(shell, kitchen)
    return shell


def _add_wall(shell: Shell, wall: int, openings: list[Rect], deep: float, paint: int, trim: int) -> None:
    length, height = shell.length(wall), shell.size[2]
    piece = shell.kit.piece("wall", (length, 0.0, height), paint)
    piece.add(paint, _wall_mesh(length, height, openings))
    for opening in openings:
        piece.add(paint, *_reveal(opening, deep))
    edges = sorted([(0.0, 0.0), (length, length), *((r[0], r[1]) for r in shell.taken_wall[wall] if r[2] == 0.0)])
    for (_, a), (b, _) in itertools.pairwise(edges):
        if b - a > 0.02:
            piece.box(trim, (a, b), (0.0, 0.014), (0.0, 0.09))
    x, y = shell.spot(wall, 0.0)
    shell.assembly.put(piece, (x, y, 0.0), YAW[wall])


def _add_floor_and_ceiling(shell: Shell, kitchen: bool) -> None:
    kit, (width, depth, height) = shell.kit, shell.size
    cover = kit.table.add(materials.floor_cover(kit.rng, kit.theme, kitchen))
    floor = kit.piece("floor", (width, depth, 0.0), cover)
    along = kit.chance(0.5)
    floor.add(cover, quad((0, 0, 0), (width, 0, 0), (0, depth, 0)) if along else quad((width, 0, 0), (0, depth, 0), (-width, 0, 0)))
    shell.assembly.put(floor, (0, 0, 0))
    white = tuple(linear(materials.shade((0.93, 0.92, 0.9), kit.uniform(0.9, 1.02), kit.rng, 0.015)) for _ in range(3))
    plaster = kit.table.add(materials.Material(0, white, (2, 2), color="white"))
    ceiling = Piece("ceiling", (width, depth, 0.0), "", "white")
    ceiling.add(plaster, quad((0, 0, height), (0, depth, 0), (width, 0, 0)))
    shell.assembly.put(ceiling, (0, 0, 0))


def _add_door(shell: Shell, wall: int) -> None:
    kit = shell.kit
    width, height = kit.uniform(0.78, 0.95), kit.uniform(1.98, 2.1)
    s = kit.uniform(width / 2 + 0.2, shell.length(wall) - width / 2 - 0.2)
    shell.hang(fixtures.door(kit, width, height), wall, s, 0.0)
    shell.taken_wall[wall].append((s - width / 2 - 0.08, s + width / 2 + 0.08, 0.0, height + 0.08))
    shell.taken_floor.append(shell.footprint(wall, s, (width, 0.8), 0.0))


def _add_window(shell: Shell, wall: int, deep: float, openings: list[list[Rect]]) -> None:
    kit = shell.kit
    width, low = kit.uniform(0.9, min(2.2, shell.length(wall) * 0.5)), kit.choose(kit.uniform(0.75, 1.05), kit.uniform(0.75, 1.05), 0.25)
    high = kit.uniform(1.95, 2.25)
    opening = (0.0, 0.0, 0.0, 0.0)
    for _ in range(12):
        s = kit.uniform(width / 2 + 0.3, shell.length(wall) - width / 2 - 0.3)
        opening = (s - width / 2, s + width / 2, low, high)
        if shell.wall_is_free(wall, opening, 0.3):
            break
    else:
        return
    frame, sky = kit.material("painted", "wood", "plastic"), _sky(shell, width, high - low)
    shell.hang(fixtures.window(kit, width, high - low, deep, frame, sky), wall, s, low)
    openings[wall].append(opening)
    shell.taken_wall[wall].append((opening[0], opening[1], low - 0.05, high + 0.05))
    if kit.chance(0.7):
        _add_curtains(shell, wall, opening)
    _daylight(shell, wall, opening, deep)


def _sky(shell: Shell, width: float, height: float) -> int:
    kit = shell.kit
    if shell.night:
        colors = ((0.05, 0.07, 0.14), (0.03, 0.03, 0.04), (0.04, 0.05, 0.04))
        return kit.table.add(materials.fitted("view", kit.rng, colors, (width, height), glow=1.0, mode=materials.SKY))
    sky = kit.choose((0.62, 0.78, 0.95), (0.8, 0.86, 0.92), (0.5, 0.7, 0.95), (0.93, 0.86, 0.78))
    land = kit.choose((0.5, 0.6, 0.38), (0.62, 0.5, 0.42), (0.6, 0.6, 0.6))
    return kit.table.add(
        materials.fitted("view", kit.rng, (sky, land, (0.25, 0.38, 0.2)), (width, height), glow=kit.uniform(2.0, 3.2), mode=materials.SKY)
    )


def _add_curtains(shell: Shell, wall: int, opening: Rect) -> None:
    kit, (u0, u1, low, high) = shell.kit, opening
    cloth, top = kit.material("fabric"), min(high + kit.uniform(0.08, 0.2), shell.size[2] - 0.05)
    bottom = 0.03 if kit.chance(0.7) else max(low - 0.2, 0.03)
    each = (u1 - u0) * kit.uniform(0.2, 0.36)
    gather = kit.choose(0.0, 0.0, kit.uniform(0.2, 0.5))
    for s in (u0 + each / 2 - 0.15, u1 - each / 2 + 0.15):
        shell.hang(fixtures.curtain(kit, each, top - bottom, cloth, gather), wall, s, bottom)
        shell.taken_wall[wall].append((s - each / 2, s + each / 2, bottom, top))
    shell.hang(fixtures.rail(kit, u1 - u0 + 0.5, kit.material("metal", "wood")), wall, (u0 + u1) / 2, top)
    shell.taken_wall[wall].append((u0 - 0.25, u1 + 0.25, top - 0.03, top + 0.03))


def _daylight(shell: Shell, wall: int, opening: Rect, deep: float) -> None:
    """The sky as a bright area in the opening and, now and then, the sun through it."""
    kit, (u0, u1, low, high) = shell.kit, opening
    if shell.night:
        return
    middle = np.array([*shell.spot(wall, (u0 + u1) / 2, -deep * 0.5), (low + high) / 2])
    along, inward = rotate(np.array([[1.0, 0, 0], [0, 1.0, 0]]), "z", YAW[wall])
    spread = np.stack([along * (u1 - u0) / 2, np.array([0, 0, (high - low) / 2])])
    power = np.array(linear((0.88, 0.93, 1.0))) * kit.uniform(2.2, 4.0) * (u1 - u0) * (high - low)
    shell.assembly.lights.append(Light("window", middle, spread, 0.0, inward, power))
    if kit.chance(0.4) and not any(light.kind == "sun" for light in shell.assembly.lights):
        to_sun = -inward + along * kit.uniform(-0.9, 0.9) + np.array([0, 0, kit.uniform(0.5, 1.1)])
        sun = np.array(linear((1.0, 0.94, 0.82))) * kit.uniform(3.0, 6.0)
        shell.assembly.lights.append(Light("sun", to_sun / np.linalg.norm(to_sun), np.zeros((2, 3)), 0.01, np.zeros(3), sun))
