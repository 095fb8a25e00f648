"""Small things set out on furniture, and what hangs on free walls."""

from __future__ import annotations

from collections.abc import Callable

from tips_bench.rooms.drawing.piece import Kit, Piece, Top
from tips_bench.rooms.scene import clutter, fixtures, furniture, storage
from tips_bench.rooms.scene.shell import Shell, overlap

Maker = Callable[[Kit], Piece]

_MAKERS: dict[str, Maker] = {
    "vase": lambda kit: clutter.vase(kit, False), "flowers": lambda kit: clutter.vase(kit, True), "bottle": clutter.bottle,
    "glass": clutter.glass, "plate": clutter.plate, "books": storage.book_pile, "box": lambda kit: clutter.box(kit, 0.7),
    "basket": clutter.basket, "plant": lambda kit: clutter.plant(kit, kit.uniform(0.22, 0.5)), "laptop": clutter.laptop,
    "clock": lambda kit: clutter.clock(kit, kit.uniform(0.06, 0.1)),
    "lamp": lambda kit: clutter.table_lamp(kit, kit.chance(0.6)),
}  # fmt: skip

_USUAL: dict[str, tuple[str, ...]] = {
    "table": ("plate", "plate", "plate", "glass", "glass", "glass", "bottle", "flowers", "vase", "books", "basket", "laptop"),
    "coffee table": ("books", "books", "glass", "glass", "vase", "flowers", "plate", "plant", "bottle", "box"),
    "desk": ("books", "books", "glass", "plant", "lamp", "box", "bottle", "clock", "flowers"),
    "cabinet": ("lamp", "vase", "flowers", "plant", "books", "box", "clock", "basket", "bottle"),
    "bookcase": ("vase", "plant", "box", "clock", "basket", "books", "bottle"),
    "shelf": ("vase", "plant", "box", "clock", "books", "bottle", "glass"),
    "countertop": ("bottle", "bottle", "glass", "glass", "plate", "plate", "basket", "plant", "box", "vase", "flowers"),
    "wardrobe": ("box", "box", "basket"), "refrigerator": ("box", "basket", "plant"), "bed": ("books", "box", "laptop"),
    "sofa": ("books", "laptop"), "chair": ("books", "box"), "stool": ("books", "plant", "box"),
}  # fmt: skip


def _inside(kit: Kit, low: float, high: float) -> float:
    """A number between low and high; the middle where high is below low, as for an item a little larger than its place."""
    return kit.uniform(low, high) if low < high else (low + high) / 2


def lay(kit: Kit, host: Piece, top: Top, item: Piece, taken: list[tuple[float, float, float, float]], turn: float = 12.0) -> bool:
    """Put an item on a free spot of a top; False if none was found in a few tries."""
    w, d = item.size[0] / 2, item.size[1] / 2
    if item.size[2] > top.room or 2 * w > top.x1 - top.x0 + 0.08 or 2 * d > top.y1 - top.y0 + 0.08:
        return False
    for _ in range(6):
        x, y = _inside(kit, top.x0 + w, top.x1 - w), _inside(kit, top.y0 + d, top.y1 - d)
        rect = (x - w, x + w, y - d, y + d)
        if not any(overlap(rect, other, 0.015) for other in taken):
            host.carry(item, x, y, top.z, kit.uniform(-turn, turn))
            taken.append(rect)
            return True
    return False


def dress(kit: Kit, piece: Piece, plenty: float) -> Piece:
    """Set small things out on a piece's tops and on those of what it carries; plenty 0..1 is how full. Returns the piece."""
    usual = _USUAL.get(piece.kind, ())
    rare = piece.kind in ("bed", "sofa", "chair", "stool", "wardrobe", "refrigerator")
    for top in piece.tops:
        if not usual or (rare and not kit.chance(0.25 * plenty)):
            continue
        taken = _fixed(kit, piece, top) if piece.kind == "desk" else []
        area = (top.x1 - top.x0) * (top.y1 - top.y0)
        wanted = 1 if rare else min(9, round(plenty * kit.uniform(0.5, 1.5) * (1.5 + 7 * area)))
        for _ in range(wanted):
            lay(kit, piece, top, _MAKERS[str(kit.choose(*usual))](kit), taken)
    for child, _, _ in list(piece.children):
        if child.tops:
            dress(kit, child, plenty)
    return piece


def _fixed(kit: Kit, desk: Piece, top: Top) -> list[tuple[float, float, float, float]]:
    """A computer's place on a desk: screen at the back, keyboard before it; or a laptop."""
    x = kit.uniform(top.x0 + 0.35, top.x1 - 0.35)
    if kit.chance(0.3):
        desk.carry(clutter.laptop(kit), x, (top.y0 + top.y1) / 2 + 0.05, top.z, kit.uniform(-12, 12))
        return [(x - 0.2, x + 0.2, top.y0, top.y1)]
    desk.carry(clutter.monitor(kit), x, top.y0 + 0.1, top.z, kit.uniform(-8, 8))
    desk.carry(clutter.keyboard(kit), x + kit.uniform(-0.04, 0.04), top.y1 - 0.12, top.z, kit.uniform(-5, 5))
    return [(x - 0.36, x + 0.36, top.y0, top.y1)]


def dress_walls(shell: Shell) -> None:
    """Pictures, mirrors, shelves and a clock on free stretches of wall."""
    kit = shell.kit
    makers: list[Maker] = [fixtures.painting, fixtures.painting, fixtures.painting, fixtures.mirror, storage.wall_shelf,
                           lambda kit: clutter.clock(kit, kit.uniform(0.12, 0.2))]  # fmt: skip
    had: set[str] = set()
    for _ in range(kit.count(4, 8)):
        piece = makers[kit.count(0, len(makers) - 1)](kit)
        if piece.kind in had:
            continue
        wall = kit.count(0, 3)
        half = piece.size[0] / 2 + 0.08
        if shell.length(wall) < 2 * half + 0.3:
            continue
        for _ in range(5):
            s = kit.uniform(half + 0.05, shell.length(wall) - half - 0.05)
            z = max(kit.uniform(1.45, 1.65) - piece.size[2] / 2, 1.0) if piece.kind != "shelf" else kit.uniform(1.15, 1.5)
            rect = (s - half, s + half, z - 0.1, z + piece.size[2] + 0.1)
            if shell.wall_is_free(wall, rect):
                out = piece.size[1] / 2 if piece.kind in ("shelf", "clock") else 0.0
                shell.hang(dress(kit, piece, 0.8), wall, s, z, out)
                shell.taken_wall[wall].append(rect)
                had |= {piece.kind} & {"clock", "mirror"}
                break


def scatter(shell: Shell, count: int) -> None:
    """Plants, baskets, boxes, lamps and stools in free spots of the floor near the walls."""
    kit = shell.kit
    makers: tuple[Maker, ...] = (
        lambda kit: clutter.plant(kit, kit.uniform(0.6, 1.6)), lambda kit: clutter.floor_lamp(kit, kit.chance(0.6)),
        clutter.basket, lambda kit: clutter.box(kit, 1.2), furniture.stool, storage.book_pile)  # fmt: skip
    for _ in range(count):
        shell.stand_somewhere(makers[kit.count(0, len(makers) - 1)](kit), tries=8)
