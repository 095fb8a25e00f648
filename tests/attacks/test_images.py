"""Images, label maps and the folders they lie in: broken, hostile, endless."""

from __future__ import annotations

import functools
import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.attacks.frame import Attack, Case, Outcome, command, corpus, meet, same_numbers, seeded
from tests.attacks.mutations import bytes_mutated, data_mutated
from tests.attacks.seeds import run_shapes, shapes_folder
from tips_bench.data.images import read_image

IMAGE, LABEL = "images/val/001", "labels/val/001"
FORMS = {"JPEG": 70, "PNG": 40, "progressive JPEG": 30, "label map": 60}


@functools.cache
def original(kind: str) -> bytes:
    if kind == "label map":
        return (shapes_folder() / f"{LABEL}.png").read_bytes()
    file = io.BytesIO()
    options: dict[str, Any] = {"quality": 90, "progressive": kind.startswith("progressive")} if "JPEG" in kind else {}
    Image.open(shapes_folder() / f"{IMAGE}.png").save(file, kind.removeprefix("progressive "), **options)
    return file.getvalue()


def placed(folder: Path, kind: str, data: bytes, verb: str) -> Attack:
    """The shapes with one image or label map replaced."""
    arguments = run_shapes(folder)
    place = LABEL if kind == "label map" else IMAGE
    (folder / "data" / "shapes" / f"{place}.png").unlink()
    suffix = ".jpg" if "JPEG" in kind else ".png"
    (folder / "data" / "shapes" / f"{place}{suffix}").write_bytes(data)
    return command(*arguments) if verb == "run" else command("data", "check", "shapes")


def whole(outcome: Outcome, folder: Path) -> None:
    """What was scored decodes to the same picture by Pillow, which refuses what is cut."""
    same_numbers(outcome, folder)
    if outcome.status != 0:
        return
    path = next((folder / "data" / "shapes" / "images" / "val").glob("001.*"))
    with Image.open(path) as image:
        theirs = np.asarray(image.convert("RGB")).astype(int)
    ours = read_image(path, turned=False).astype(int)
    assert ours.shape == theirs.shape and np.abs(ours - theirs).mean() < 8, "another picture than Pillow's was scored"


def forms() -> Iterator[Case]:
    for kind, number in FORMS.items():
        for index in range(number):
            verb = "data check" if index % 3 == 2 else "run"

            def prepare(folder: Path, kind: str = kind, index: int = index, verb: str = verb) -> Attack:
                found = list(bytes_mutated(original(kind), index + 1, seeded("images", kind)))[index][1]
                return placed(folder, kind, found, verb)

            check = whole if verb == "run" and kind != "label map" else same_numbers
            yield Case(f"{kind}, form {index}, {verb}", prepare, statuses=(0, 2) if verb == "run" else (0, 1, 2), check=check)


@corpus("images", list(forms()))
def test_an_image_is_scored_as_it_is_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


def png(width: int, height: int, bits: int = 8, color: int = 2, body: bytes = b"", extra: tuple[bytes, bytes] | None = None) -> bytes:
    """A PNG that says what it likes of itself."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)), *([extra] if extra else [])]
    chunks += [(b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def saved(mode: str, format: str, size: tuple[int, int] = (98, 84), **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, format, **options)
    return file.getvalue()


BODY = bytes((1 + 98 * 3) * 84)  # of 98 x 84 black pixels
WHOLE_FILES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "a text": lambda: b"hello",
    "a page": lambda: b"<html>404</html>",
    "SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
    "GIF": lambda: saved("P", "GIF"),
    "TIFF": lambda: saved("RGB", "TIFF"),
    "BMP": lambda: saved("RGB", "BMP"),
    "WebP": lambda: saved("RGB", "WEBP"),
    "EPS": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(x) run\n",
    "30,000 x 30,000": lambda: png(30_000, 30_000, body=bytes(1000)),
    "2**31 x 2**31": lambda: png(2**31 - 1, 2**31 - 1),
    "no pixels": lambda: png(0, 0),
    "1 x 300": lambda: saved("RGB", "PNG", (1, 300)),
    "1 x 60,000": lambda: saved("RGB", "PNG", (60_000, 1)),
    "a bomb": lambda: png(8000, 8000, color=0, body=bytes(8001 * 8000)),
    "a bomb of text": lambda: png(98, 84, body=BODY, extra=(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000)))),
    "a bomb of a profile": lambda: png(98, 84, body=BODY, extra=(b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000)))),
    "16 bits": lambda: saved("I;16", "PNG"),
    "1 bit": lambda: saved("1", "PNG"),
    "a palette": lambda: saved("P", "PNG"),
    "alpha": lambda: saved("RGBA", "PNG"),
    "gray and alpha": lambda: saved("LA", "PNG"),
    "CMYK": lambda: saved("CMYK", "JPEG"),
    "a turned JPEG": lambda: saved("RGB", "JPEG", exif=bytes.fromhex("45786966000049492a0008000000010012010300010000000600000000000000")),
    "broken EXIF": lambda: saved("RGB", "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
    "an unknown color type": lambda: png(98, 84, color=7),
    "20 bits": lambda: png(98, 84, bits=20),
}  # fmt: skip


def files() -> Iterator[Case]:
    for kind in ("PNG", "label map"):
        for name, make in WHOLE_FILES.items():
            for verb in ("run", "data check"):

                def prepare(folder: Path, kind: str = kind, make: Callable[[], bytes] = make, verb: str = verb) -> Attack:
                    return placed(folder, kind, make(), verb)

                yield Case(f"{kind} that is {name}, {verb}", prepare, statuses=(0, 2) if verb == "run" else (0, 1, 2), check=same_numbers)


@corpus("files for images", list(files()))
def test_a_file_that_is_no_image_of_the_set_is_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: os.symlink(target, path)


def _tree(path: Path) -> None:
    for _ in range(60):
        path = path / "x"
    path.mkdir(parents=True)


PLACED: dict[str, Callable[[Path], None]] = {
    "a link to itself": _link("001.png"),
    "a link to nothing": _link("nowhere.png"),
    "a link to zeros": _link("/dev/zero"),
    "a link to memory": _link("/proc/self/mem"),
    "a link to a folder": _link("."),
    "a pipe": lambda path: os.mkfifo(path),
    "a folder": lambda path: path.mkdir(),
    "a file of 10**12 bytes": lambda path: (path.touch(), os.truncate(path, 10**12))[0],
    "nothing": lambda path: None,
}


def _beside(name: bytes) -> Callable[[Path], None]:
    """An image more, of that name."""

    def put(root: Path) -> None:
        with open(os.fsencode(root / "images" / "val") + b"/" + name, "wb") as file:
            file.write(original("JPEG" if name.endswith(b".jpg") else "PNG"))

    return put


AROUND: dict[str, Callable[[Path], None]] = {
    "a loop of links": lambda root: os.symlink("..", root / "images" / "val" / "up"),
    "a loop of labels": lambda root: os.symlink("..", root / "labels" / "val" / "up"),
    "a file with an escape": _beside(b"\x1b[2J.png"),
    "a file with a line break": _beside(b"a\nb.png"),
    "a file with a text direction": _beside("a\u202eb.png".encode()),
    "a file that is not UTF-8": _beside(b"\xff.png"),
    "a name of 250 characters": _beside(b"x" * 250 + b".png"),
    "two of one id": _beside(b"001.jpg"),
    "a deep tree": lambda root: _tree(root / "images" / "val"),
    "no classes": lambda root: (root / "classes.json").unlink(),
}


def _right(verb: str, place: str, name: str) -> tuple[int, ...]:
    """A label without its image is no sample of the set; all else that lies there must be refused."""
    if verb != "run":
        return 0, 1, 2
    return (0, 2) if place == IMAGE and name in ("a folder", "a link to a folder", "nothing") else (2,)


def folders() -> Iterator[Case]:
    for verb in ("run", "data check"):
        statuses = (0, 2) if verb == "run" else (0, 1, 2)
        for place in (IMAGE, LABEL):
            for name, put in PLACED.items():

                def replaced(folder: Path, place: str = place, put: Callable[[Path], None] = put, verb: str = verb) -> Attack:
                    arguments = run_shapes(folder)
                    path = folder / "data" / "shapes" / f"{place}.png"
                    path.unlink()
                    put(path)
                    return command(*(arguments if verb == "run" else ["data", "check", "shapes"]))

                yield Case(f"{place} is {name}, {verb}", replaced, statuses=_right(verb, place, name), check=same_numbers)
        for name, change in AROUND.items():

            def around(folder: Path, change: Callable[[Path], None] = change, verb: str = verb) -> Attack:
                arguments = run_shapes(folder)
                change(folder / "data" / "shapes")
                return command(*(arguments if verb == "run" else ["data", "check", "shapes"]))

            yield Case(f"{name}, {verb}", around, statuses=statuses, check=same_numbers)
        for number in range(20):

            def classes(folder: Path, number: int = number, verb: str = verb) -> Attack:
                arguments = run_shapes(folder)
                path = folder / "data" / "shapes" / "classes.json"
                found = list(data_mutated(json.loads(path.read_text()), number + 1, seeded("classes", verb)))[number][1]
                path.write_text(json.dumps(found))
                return command(*(arguments if verb == "run" else ["data", "check", "shapes"]))

            yield Case(f"class names, form {number}, {verb}", classes, statuses=statuses)


@corpus("folders", list(folders()))
def test_a_folder_is_scored_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)
