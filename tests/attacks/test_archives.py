"""Archives that lead out, never end, claim what they are not, or are damaged: real ones changed, and some made by hand."""

from __future__ import annotations

import functools
import gzip
import io
import tarfile
import zipfile
from pathlib import Path

from tests.attacks.frame import Attack, Case, Outcome, call, corpus, meet, seeded, write
from tests.attacks.mutations import ESCAPE, bytes_mutated
from tips_bench.data.download.unpack import unpack

FILES = {"set/images/a.jpg": bytes(range(256)) * 8, "set/labels/a.png": b"b" * 2000, "set/empty": b""}
NAMES = [
    "../outside", "../../outside", "/outside", "//outside", "a/../../outside", "..\\outside", "C:\\x", "C:x", "set/..", ".", "..",
    "", "/", "a//", "a\0b", "a/\0", ESCAPE, "\ud800", "a" * 256, "a" * 5000, "/".join("a" * 60), "/".join("ab" * 300), "a/./b",
    "~/.bashrc", "$HOME/x", "con", "a:b", "a.", " ", "\u202e", ".set.bin.unpacking/x", ".x.lock", ".a.1-00000000.tmp/x", "-rf", "set",
]  # fmt: skip
KINDS = {
    "a symbolic link": tarfile.SYMTYPE, "a hard link": tarfile.LNKTYPE, "a character device": tarfile.CHRTYPE, "a pipe": tarfile.FIFOTYPE,
    "a block device": tarfile.BLKTYPE, "a sparse file": tarfile.GNUTYPE_SPARSE, "an unknown kind": b"Z", "a volume": b"V",
    "a contiguous file": tarfile.CONTTYPE, "a pax header": tarfile.XHDTYPE, "a global pax header": tarfile.XGLTYPE,
    "a long name": tarfile.GNUTYPE_LONGNAME, "a long link": tarfile.GNUTYPE_LONGLINK, "a folder": tarfile.DIRTYPE,
}  # fmt: skip
END_64 = b"PK\x06\x06" + bytes(36) + b"\xff" * 16 + b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + bytes(4) + b"\xff" * 12 + bytes(2)
SIZES = [0, 1, 513, 5 << 20, 4 << 30, (8 << 60) - 1]


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            archive.writestr(info, content)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, errors="surrogateescape") as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def prepare(folder: Path, content: bytes) -> Attack:
    write(folder / "set.bin", content)
    return call(lambda: unpack(folder / "set.bin", folder / "out", "toy"))


def all_or_nothing(outcome: Outcome, folder: Path) -> None:
    """Nothing stays of an archive that was refused; what was unpacked are plain files."""
    found = list((folder / "out").rglob("*"))
    assert not any(path.is_symlink() or not (path.is_file() or path.is_dir()) for path in found)
    if outcome.status == 2:
        assert not found


def case(name: str, content: bytes) -> Case:
    return Case(name, functools.partial(prepare, content=content), check=all_or_nothing)


def damaged() -> list[Case]:
    made = {
        "zip": zipped(FILES),
        "tar": tarred(FILES),
        "tar.gz": tarred(FILES, "w:gz"),
        "tar.xz": tarred(FILES, "w:xz"),
        "tar.bz2": tarred(FILES, "w:bz2"),
    }
    made["stored zip"] = zipped(FILES, zipfile.ZIP_STORED)
    return [
        case(f"{kind}, {said}", data) for kind, whole in made.items() for said, data in bytes_mutated(whole, 25, seeded("archives", kind))
    ]


def named() -> list[Case]:
    found = []
    for number, name in enumerate(NAMES):
        for kind, make in (("zip", zipped), ("tar", tarred)):
            try:
                content = make({**FILES, name: b"x"})
            except (ValueError, UnicodeError):
                continue  # no such archive can be written
            found.append(case(f"{kind} with the name {number} {name[:16]!a} of {len(name)}", content))
    return found


def header(kind: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("set/thing")
    info.type, info.size, info.linkname = kind, size, "/etc/passwd"
    return info.tobuf(tarfile.GNU_FORMAT)


def members() -> list[Case]:
    return [
        case(f"{said} of {size} bytes, {form}", pack(tarred(FILES)[:-1024] + header(kind, size) + bytes(4096)))
        for said, kind in KINDS.items()
        for size in SIZES
        for form, pack in (("plain", bytes), ("packed", functools.partial(gzip.compress, compresslevel=1)))
    ]


def pax(**values: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("set/a")
        info.size, info.pax_headers = 3, {name.replace("_", "."): value for name, value in values.items()}
        archive.addfile(info, io.BytesIO(b"abc"))
    return out.getvalue()


def by_hand() -> list[Case]:
    made = {
        "zeros of 200 MB in a zip": lambda: zipped({"bomb": bytes(200 << 20)}),
        "zeros of 300 MB in a tar": lambda: gzip.compress(header(tarfile.REGTYPE, 300 << 20) + bytes(300 << 20), 1),
        "headers that never end": lambda: gzip.compress((header(tarfile.XGLTYPE, 512 << 10) + bytes(512 << 10)) * 400, 1),
        "100,001 folders": lambda: gzip.compress(header(tarfile.DIRTYPE, 0) * 100_001, 1),
        "a tar in a zip's place": lambda: tarred({"a.zip": zipped(FILES)}),
        "a zip behind a tar": lambda: tarred(FILES) + zipped({"other": b"x"}),
        "a gzip in a gzip": lambda: gzip.compress(gzip.compress(tarred(FILES))),
        "no archive": lambda: b"hello\n" * 99,
        "only an end record": lambda: b"PK\x05\x06" + bytes(18),
        "an end record of a great list": lambda: b"PK\x05\x06" + bytes(8) + b"\xfe\xff\xff\xff" + bytes(6),
        "a zip64 of a great list": lambda: END_64,
        "a pax path that leads out": lambda: pax(path="../../outside"),
        "a pax size that is none": lambda: pax(size="x"),
        "a pax size below nothing": lambda: pax(size="-1"),
        "a pax size of 5,000 digits": lambda: pax(size="9" * 5000),
        "a pax sparse map": lambda: pax(GNU_sparse_major="1", GNU_sparse_minor="0", GNU_sparse_realsize="99999999999"),
        "a pax time of no time": lambda: pax(mtime="nan"),
        "a pax charset of none": lambda: pax(hdrcharset="x", path="\xff"),
        "a pax comment of 900 kB": lambda: pax(comment="x" * 900_000),
        "a pax comment of 3 MB": lambda: pax(comment="x" * 3_000_000),
        "two names that differ in case": lambda: zipped({"a": b"1", "A": b"2"}),
        "a file that is a folder, too": lambda: zipped({"a": b"1", "a/b": b"2"}),
        "a folder that is a file, too": lambda: tarred({"a/b": b"1", "a": b"2"}),
    }  # fmt: skip
    return [Case(name, lambda folder, make=make: prepare(folder, make()), check=all_or_nothing) for name, make in made.items()]


@corpus("archives", [*by_hand(), *damaged(), *named(), *members()])
def test_an_archive_is_unpacked_whole_or_refused_in_a_sentence(case: Case, arena: Path) -> None:
    meet(case, arena)
