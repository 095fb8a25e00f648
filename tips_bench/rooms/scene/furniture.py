"""Beds, seats and tables of drawn proportions. Every maker takes the kit of the scene and returns a Piece."""

from __future__ import annotations

from tips_bench.rooms.drawing.mesh import bar, blob, boxes, cylinder, lathe
from tips_bench.rooms.drawing.piece import Kit, Piece, Top


def legs(kit: Kit, piece: Piece, material: int, half: tuple[float, float], height: float, style: str, thick: float) -> None:
    """Four legs at (+-half x, +-half y): square, round, tapered or splayed."""
    for sx in (-1, 1):
        for sy in (-1, 1):
            x, y = sx * half[0], sy * half[1]
            if style == "square":
                piece.box(material, (x - thick, x + thick), (y - thick, y + thick), (0, height))
            elif style == "splayed":
                piece.add(material, bar((x + sx * 0.12 * height, y + sy * 0.12 * height, 0), (x, y, height), thick * 0.8))
            else:
                foot = thick if style == "round" else thick * 0.5
                piece.add(material, cylinder(foot, 0, height, 8, top_radius=thick).moved(x, y))


def bed(kit: Kit) -> Piece:
    """A single or double bed with head board, mattress, duvet, pillows and at times a throw."""
    width, length = (kit.uniform(0.9, 1.1) if kit.chance(0.35) else kit.uniform(1.35, 1.85)), kit.uniform(2.0, 2.15)
    frame, sheet, cover = kit.material("wood", "painted", "fabric", "leather", "metal"), kit.material("fabric"), kit.material("fabric")
    base, thick, head = kit.uniform(0.18, 0.36), kit.uniform(0.16, 0.26), kit.uniform(0.75, 1.25)
    piece = kit.piece("bed", (width, length, head), cover)
    half, back, front, level = width / 2, -length / 2, length / 2, base + thick
    piece.box(frame, (-half, half), (back + 0.06, front), (base - kit.uniform(0.1, 0.16), base))
    legs(kit, piece, frame, (half - 0.08, length / 2 - 0.1), base, kit.choose("square", "round"), 0.04)
    _headboard(kit, piece, frame, half, back, head)
    if kit.chance(0.3):
        piece.box(frame, (-half, half), (front - 0.05, front), (base - 0.1, base + kit.uniform(0.15, 0.4)))
    piece.box(sheet, (-half + 0.02, half - 0.02), (back + 0.07, front - 0.06), (base, level), 0.05)
    start = back + kit.uniform(0.45, 0.75)
    drop = kit.uniform(0.05, thick + 0.05)
    piece.box(cover, (-half - 0.03, half + 0.03), (start, front - 0.04), (level - drop, level + kit.uniform(0.04, 0.09)), 0.045)
    if kit.chance(0.6):
        piece.box(sheet, (-half - 0.035, half + 0.035), (start, start + kit.uniform(0.15, 0.3)), (level - drop - 0.01, level + 0.1), 0.045)
    _pillows(kit, piece, width, back, level)
    if kit.chance(0.4):
        _throw(kit, piece, half, front, level, drop)
    piece.tops.append(Top(-half + 0.15, half - 0.15, back + 0.9, front - 0.4, level + 0.1))
    return piece


def _headboard(kit: Kit, piece: Piece, frame: int, half: float, back: float, head: float) -> None:
    style = kit.choose("panel", "padded", "slats", "none")
    if style == "padded":
        count = kit.count(1, 4)
        for i in range(count):
            x0 = -half + 2 * half * i / count
            piece.box(frame, (x0, x0 + 2 * half / count), (back, back + 0.1), (0.1, head), 0.03)
    elif style == "panel":
        piece.box(frame, (-half - 0.03, half + 0.03), (back, back + 0.06), (0, head))
    elif style == "slats":
        piece.box(frame, (-half, half), (back, back + 0.05), (head - 0.08, head))
        count = kit.count(5, 12)
        for i in range(count):
            x = -half + 2 * half * (i + 0.5) / count
            piece.box(frame, (x - 0.025, x + 0.025), (back + 0.01, back + 0.04), (0.2, head - 0.08))
        for x in (-half, half - 0.06):
            piece.box(frame, (x, x + 0.06), (back, back + 0.06), (0, head + 0.04))


def pillow(kit: Kit, kind: str = "pillow") -> Piece:
    """A pillow of a bed or a cushion of a sofa, standing on its long edge, leaning back."""
    width = kit.uniform(0.5, 0.7) if kind == "pillow" else kit.uniform(0.36, 0.5)
    height = kit.uniform(0.36, 0.46) if kind == "pillow" else width * kit.uniform(0.75, 1.0)
    cloth = kit.material("fabric")
    piece = kit.piece(kind, (width, 0.2, height), cloth)
    lean = kit.uniform(15, 38)
    body = blob((width / 2, height / 2, kit.uniform(0.06, 0.1)), 0.45).turned("x", 90 + lean)
    piece.add(cloth, body.moved(z=-float(body.points_V3[:, 2].min()) - 0.015))
    return piece


def _pillows(kit: Kit, piece: Piece, width: float, back: float, level: float) -> None:
    columns = 1 if width < 1.2 else 2
    for row in range(kit.count(1, 2)):
        for column in range(columns):
            x = (column - (columns - 1) / 2) * width * 0.46 + kit.uniform(-0.03, 0.03)
            if kit.chance(0.4) and row == 0:
                piece.carry(_lying_pillow(kit), x, back + 0.32, level, kit.uniform(-6, 6))
            else:
                piece.carry(pillow(kit), x, back + 0.26 + 0.16 * row, level + 0.02, kit.uniform(-8, 8))


def _lying_pillow(kit: Kit) -> Piece:
    cloth, size = kit.material("fabric"), (kit.uniform(0.55, 0.72), kit.uniform(0.38, 0.46), 0.14)
    piece = kit.piece("pillow", size, cloth)
    piece.add(cloth, blob((size[0] / 2, size[1] / 2, kit.uniform(0.06, 0.085)), 0.45).moved(z=0.065))
    return piece


def _throw(kit: Kit, piece: Piece, half: float, front: float, level: float, drop: float) -> None:
    """A folded or spread blanket across the foot of the bed."""
    cloth = kit.material("fabric")
    width = kit.uniform(0.3, 0.6)
    throw = kit.piece("blanket", (2 * half, width, 0.12), cloth)
    throw.box(cloth, (-half - 0.05, half + 0.05), (-width / 2, width / 2), (-drop * kit.uniform(0.5, 1.2), 0.035), 0.03)
    piece.carry(throw, 0, front - 0.2 - width / 2, level + 0.08)


def chair(kit: Kit, low_seat: bool = False) -> Piece:
    """A dining or office chair; its front is +y."""
    width, depth, seat, top = kit.uniform(0.4, 0.5), kit.uniform(0.4, 0.5), kit.uniform(0.43, 0.49), kit.uniform(0.78, 1.05)
    frame = kit.material("wood", "painted", "metal", "plastic")
    covered = kit.chance(0.5)
    cover = kit.material("fabric", "leather", "wood") if covered else frame
    piece = kit.piece("chair", (width, depth, top), cover)
    half, deep = width / 2, depth / 2
    if kit.chance(0.2):
        _office_foot(kit, piece, seat)
    else:
        legs(
            kit,
            piece,
            frame,
            (half - 0.03, deep - 0.03),
            seat - 0.02,
            kit.choose("square", "round", "tapered", "splayed"),
            kit.uniform(0.014, 0.022),
        )
    bevel = 0.025 if covered else 0.008
    piece.box(cover, (-half, half), (-deep, deep), (seat - kit.uniform(0.03, 0.07), seat), bevel)
    _chair_back(kit, piece, frame, cover, half, deep, seat, top)
    if kit.chance(0.2):
        for side in (-1, 1):
            x = side * (half - 0.02)
            piece.box(frame, (x - 0.02, x + 0.02), (-deep, deep * 0.6), (seat + 0.2, seat + 0.23))
            piece.box(frame, (x - 0.015, x + 0.015), (deep * 0.45, deep * 0.6), (seat - 0.03, seat + 0.2))
    piece.tops.append(Top(-half + 0.08, half - 0.08, -deep + 0.1, deep - 0.08, seat))
    return piece


def _chair_back(kit: Kit, piece: Piece, frame: int, cover: int, half: float, deep: float, seat: float, top: float) -> None:
    """Slats, spindles, a panel or upholstery between two posts, leaning a little."""
    style = kit.choose("rungs", "spindles", "panel", "padded")
    lean = kit.uniform(4, 14)
    height = top - seat
    low, high = [], []
    posts = style != "padded"
    if posts:
        for x in (-half, half - 0.035):
            low.append((x, -0.018, -0.02))
            high.append((x + 0.035, 0.018, height))
    if style == "rungs":
        count = kit.count(2, 4)
        for i in range(count):
            z = height * (0.35 + 0.62 * (i + 0.5) / count)
            low.append((-half, -0.01, z - 0.03))
            high.append((half, 0.012, z + 0.03))
    elif style == "spindles":
        low.append((-half, -0.015, height - 0.06))
        high.append((half, 0.015, height))
        for i in range(5):
            x = -half + 2 * half * (i + 1) / 6
            low.append((x - 0.01, -0.01, 0))
            high.append((x + 0.01, 0.01, height - 0.05))
    else:
        low.append((-half + 0.01, -0.025, height * (0.3 if style == "panel" else 0.08)))
        high.append((half - 0.01, 0.025, height))
    piece.add(
        cover if style in ("padded", "panel") else frame,
        boxes(low, high, 0.02 if style == "padded" else 0.004).turned("x", lean).moved(0, -deep + 0.03, seat),
    )


def _office_foot(kit: Kit, piece: Piece, seat: float) -> None:
    iron = kit.material("metal", "plastic")
    piece.add(iron, cylinder(0.03, 0.1, seat - 0.02, 10))
    for i in range(5):
        piece.add(
            iron,
            bar((0, 0, 0.11), (0, 0.26, 0.06), 0.018, 6).turned("z", 72 * i),
            cylinder(0.03, 0, 0.06, 8).moved(0, 0.26).turned("z", 72 * i),
        )


def stool(kit: Kit) -> Piece:
    """A round or square seat without a back, from pouffe to bar height."""
    radius, height = kit.uniform(0.16, 0.24), kit.uniform(0.4, 0.7)
    cover, frame = kit.material("wood", "fabric", "leather", "painted"), kit.material("wood", "metal", "painted")
    piece = kit.piece("stool", (2 * radius, 2 * radius, height), cover)
    reach = radius * 0.65
    legs(kit, piece, frame, (reach, reach), height - 0.03, kit.choose("round", "tapered", "splayed", "square"), 0.016)
    if kit.chance(0.6):
        piece.add(
            cover,
            lathe(
                [(0, height - 0.06), (radius * 0.95, height - 0.06), (radius, height - 0.03), (radius * 0.9, height), (0, height + 0.01)],
                18,
            ),
        )
    else:
        piece.box(cover, (-radius, radius), (-radius, radius), (height - 0.05, height), 0.02)
    if height > 0.55:
        piece.box(frame, (-reach, reach), (-0.01, 0.01), (0.2, 0.225))
    piece.tops.append(Top(-radius + 0.08, radius - 0.08, -radius + 0.08, radius - 0.08, height))
    return piece


def sofa(kit: Kit) -> Piece:
    """A sofa for two or three, with loose cushions."""
    return _upholstered(kit, "sofa", kit.count(2, 3), kit.uniform(1.45, 2.3))


def armchair(kit: Kit) -> Piece:
    """A wide seat for one with arms: upholstered, or cushions in a wooden frame."""
    if kit.chance(0.3):
        return _lounge_chair(kit)
    return _upholstered(kit, "armchair", 1, kit.uniform(0.72, 0.95))


def _upholstered(kit: Kit, kind: str, seats: int, width: float) -> Piece:
    cloth = kit.material("fabric", "fabric", "leather")
    depth, seat, top = kit.uniform(0.78, 0.98), kit.uniform(0.38, 0.46), kit.uniform(0.72, 0.98)
    arm, rise, foot = kit.uniform(0.1, 0.24), kit.uniform(0.12, 0.26), kit.uniform(0.04, 0.16)
    piece = kit.piece(kind, (width, depth, top), cloth)
    half, back, front, soft = width / 2, -depth / 2, depth / 2, kit.uniform(0.03, 0.06)
    legs(kit, piece, kit.material("wood", "metal"), (half - 0.08, depth / 2 - 0.08), foot, kit.choose("square", "tapered", "round"), 0.025)
    piece.box(cloth, (-half, half), (back, front - 0.03), (foot, seat - 0.12), 0.02)
    piece.box(cloth, (-half + 0.02, half - 0.02), (back, back + 0.2), (foot, top - 0.04), soft)
    for side in (-1, 1):
        edges = sorted((side * half, side * (half - arm)))
        piece.box(cloth, (edges[0], edges[1]), (back + 0.02, front), (foot, seat + rise), soft)
    inner = 2 * (half - arm) / seats
    lean = kit.uniform(6, 14)
    for i in range(seats):
        x0 = -half + arm + inner * i
        piece.box(cloth, (x0 + 0.004, x0 + inner - 0.004), (back + 0.18, front + 0.01), (seat - 0.14, seat), 0.045)
        rest = boxes([[-inner / 2 + 0.006, -0.09, 0]], [[inner / 2 - 0.006, 0.09, top - seat + kit.uniform(-0.04, 0.05)]], 0.06)
        piece.add(cloth, rest.turned("x", lean).moved(x0 + inner / 2, back + 0.25, seat - 0.01))
    for _ in range(kit.count(0, 2) if kind == "armchair" else kit.count(1, 4)):
        piece.carry(pillow(kit, "cushion"), kit.uniform(-1, 1) * max(half - arm - 0.2, 0), back + 0.44, seat, kit.uniform(-15, 15))
    if kit.chance(0.2):
        _sofa_blanket(kit, piece, half, arm, back, front, seat, rise)
    piece.tops.append(Top(-half + arm + 0.1, half - arm - 0.1, back + 0.5, front - 0.12, seat))
    return piece


def _sofa_blanket(kit: Kit, piece: Piece, half: float, arm: float, back: float, front: float, seat: float, rise: float) -> None:
    """A throw hung over an arm."""
    cloth, side = kit.material("fabric"), kit.choose(-1, 1)
    throw = kit.piece("blanket", (arm + 0.06, 0.4, rise + 0.2), cloth)
    edges = sorted((side * (half + 0.015), side * (half - arm - 0.02)))
    throw.box(cloth, (edges[0], edges[1]), (-0.2, 0.2), (kit.uniform(0.1, 0.25), seat + rise + 0.02), 0.02)
    piece.carry(throw, 0, kit.uniform(back + 0.45, front - 0.25), 0)


def _lounge_chair(kit: Kit) -> Piece:
    wood, cloth = kit.material("wood", "metal"), kit.material("fabric", "leather")
    width, depth, seat, top = kit.uniform(0.62, 0.75), kit.uniform(0.7, 0.85), kit.uniform(0.36, 0.42), kit.uniform(0.75, 0.95)
    piece = kit.piece("armchair", (width, depth, top), cloth)
    half, deep, arm = width / 2, depth / 2, kit.uniform(0.5, 0.6)
    for side in (-1, 1):
        x = side * (half - 0.03)
        piece.box(wood, (x - 0.03, x + 0.03), (-deep + 0.05, deep), (arm, arm + 0.03), 0.008)
        for y in (-deep + 0.08, deep - 0.1):
            piece.box(wood, (x - 0.018, x + 0.018), (y, y + 0.04), (0, arm))
    piece.box(wood, (-half + 0.05, half - 0.05), (-deep + 0.1, deep - 0.05), (seat - 0.16, seat - 0.12))
    piece.box(cloth, (-half + 0.06, half - 0.06), (-deep + 0.1, deep - 0.02), (seat - 0.12, seat), 0.04)
    rest = boxes([[-half + 0.06, -0.06, 0]], [[half - 0.06, 0.06, top - seat]], 0.04)
    piece.add(cloth, rest.turned("x", kit.uniform(14, 26)).moved(0, -deep + 0.2, seat - 0.05))
    if kit.chance(0.5):
        piece.carry(pillow(kit, "cushion"), 0, -deep + 0.38, seat, kit.uniform(-12, 12))
    return piece


def table(kit: Kit, kind: str = "table") -> Piece:
    """A dining table, coffee table or bedside table: rectangular or round, on legs, trestles, a column or side panels."""
    low = kind == "coffee table"
    height = kit.uniform(0.34, 0.5) if low else kit.uniform(0.71, 0.78)
    top, frame = kit.material("wood", "painted", "wood", "glass" if low else "ceramic"), kit.material("wood", "painted", "metal")
    if kit.chance(0.5):
        frame = top
    thick = kit.uniform(0.02, 0.055)
    if kit.chance(0.3):
        return _round_table(kit, kind, kit.uniform(0.3, 0.45) if low else kit.uniform(0.42, 0.62), height, thick, top, frame)
    width, depth = (kit.uniform(0.8, 1.25), kit.uniform(0.45, 0.7)) if low else (kit.uniform(1.1, 1.9), kit.uniform(0.7, 0.95))
    piece = kit.piece(kind, (width, depth, height), top)
    half, deep = width / 2, depth / 2
    piece.box(top, (-half, half), (-deep, deep), (height - thick, height), 0.006)
    style = kit.choose("legs", "legs", "legs", "panels", "trestle")
    if style == "legs":
        inset = kit.uniform(0.03, 0.12)
        legs(
            kit,
            piece,
            frame,
            (half - inset, deep - inset),
            height - thick,
            kit.choose("square", "round", "tapered", "splayed"),
            kit.uniform(0.018, 0.045),
        )
        if kit.chance(0.6):
            piece.box(
                frame,
                (-half + inset, half - inset),
                (-deep + inset, deep - inset),
                (height - thick - kit.uniform(0.05, 0.1), height - thick),
            )
    else:
        for x in (-half + 0.08, half - 0.12):
            y = deep - 0.03 if style == "panels" else 0.05
            piece.box(frame, (x, x + 0.04), (-y, y), (0, height - thick))
            if style == "trestle":
                piece.box(frame, (x - 0.02, x + 0.06), (-deep + 0.05, deep - 0.05), (0, 0.05))
        piece.box(frame, (-half + 0.1, half - 0.1), (-0.02, 0.02), (height * 0.3, height * 0.3 + 0.08))
    if low and kit.chance(0.4):
        piece.box(frame, (-half + 0.06, half - 0.06), (-deep + 0.06, deep - 0.06), (0.12, 0.14))
        piece.tops.append(Top(-half + 0.2, half - 0.2, -deep + 0.15, deep - 0.15, 0.14, height - 0.2))
    piece.tops.append(Top(-half + 0.06, half - 0.06, -deep + 0.06, deep - 0.06, height))
    return piece


def _round_table(kit: Kit, kind: str, radius: float, height: float, thick: float, top: int, frame: int) -> Piece:
    piece = kit.piece(kind, (2 * radius, 2 * radius, height), top)
    piece.add(
        top,
        lathe(
            [(0, height - thick), (radius - 0.01, height - thick), (radius, height - thick / 2), (radius - 0.01, height), (0, height)], 28
        ),
    )
    if kit.chance(0.5):
        foot = radius * kit.uniform(0.5, 0.75)
        piece.add(frame, lathe([(0, 0), (foot, 0), (foot, 0.025), (0.05, 0.06), (0.04, height - thick - 0.05), (0.12, height - thick)], 18))
    else:
        reach = radius * 0.62
        legs(kit, piece, frame, (reach, reach), height - thick, kit.choose("round", "tapered", "splayed"), kit.uniform(0.018, 0.035))
    reach = radius * 0.66
    piece.tops.append(Top(-reach, reach, -reach, reach, height))
    return piece


def desk(kit: Kit) -> Piece:
    """A writing table with drawers or a modesty panel; one sits at its front, +y."""
    width, depth, height = kit.uniform(1.05, 1.6), kit.uniform(0.55, 0.75), kit.uniform(0.72, 0.77)
    top, body = kit.material("wood", "painted", "wood"), kit.material("wood", "painted", "metal")
    if kit.chance(0.5):
        body = top
    piece = kit.piece("desk", (width, depth, height), top)
    half, deep, thick = width / 2, depth / 2, kit.uniform(0.02, 0.04)
    piece.box(top, (-half, half), (-deep, deep), (height - thick, height), 0.004)
    chests = kit.choose((1,), (-1,), (-1, 1), ())
    for side in (-1, 1):
        if side in chests:
            inner = side * (half - kit.uniform(0.34, 0.45))
            edges = sorted((side * (half - 0.02), inner))
            piece.box(body, (edges[0], edges[1]), (-deep + 0.03, deep - 0.04), (0.04, height - thick))
            _drawers(kit, piece, top, edges, deep - 0.04, 0.07, height - thick - 0.02)
        else:
            x = side * (half - 0.06)
            for y in (-deep + 0.06, deep - 0.06):
                piece.box(body, (x - 0.025, x + 0.025), (y - 0.025, y + 0.025), (0, height - thick))
    if kit.chance(0.5):
        piece.box(body, (-half + 0.06, half - 0.06), (-deep + 0.06, -deep + 0.08), (height - 0.4, height - thick))
    piece.tops.append(Top(-half + 0.06, half - 0.06, -deep + 0.06, deep - 0.06, height, 0.7))
    return piece


def _drawers(kit: Kit, piece: Piece, material: int, x: list[float], front: float, low: float, high: float) -> None:
    count = kit.count(2, 4)
    knob = kit.material("metal", "wood")
    for i in range(count):
        z0, z1 = low + (high - low) * i / count, low + (high - low) * (i + 1) / count
        piece.box(material, (x[0] + 0.01, x[1] - 0.01), (front, front + 0.018), (z0 + 0.006, z1 - 0.006))
        middle = (x[0] + x[1]) / 2
        piece.box(knob, (middle - 0.05, middle + 0.05), (front + 0.018, front + 0.035), ((z0 + z1) / 2 - 0.008, (z0 + z1) / 2 + 0.008))
