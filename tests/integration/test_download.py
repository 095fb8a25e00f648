"""Data sets fetched and unpacked from a server and archives that mean harm."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.integration.broken_server import Server, running
from tips_bench import fetch as fetching
from tips_bench.cards import DataCard, Download, TaskCard
from tips_bench.data.download import unpack as unpacking
from tips_bench.data.download.task_data import download
from tips_bench.data.download.unpack import entry_path, unpack
from tips_bench.errors import UserError

FILES = {"set/images/a.jpg": b"a" * 3000, "set/labels/a.png": b"b" * 2000, "set/empty": b""}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetching, "BACKOFF_S", 0.001)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with running() as started:
        yield started


def zipped(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz", extra: list[tarfile.TarInfo] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra or []:
            archive.addfile(info)
    return out.getvalue()


def task(*items: Download, **data: Any) -> TaskCard:
    return TaskCard(
        name="toy",
        family="segmentation",
        title="toy",
        version=1,
        data=DataCard(reader="folder", root="sets/set", splits={"train": "a", "test": "b"}, download=list(items), **data),
        protocol="convex",
        protocols=["convex"],
        primary="mIoU",
        license="none",
        citation="none",
        homepage="none",
        how_to_get="Ask the owner.",
    )


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "make", [zipped, tarred, lambda files: tarred(files, "w"), lambda files: tarred(files, "w:xz"), lambda files: tarred(files, "w:bz2")]
)
def test_a_task_is_fetched_and_unpacked_whole(server: Server, tmp_path: Path, make: Callable[[dict[str, bytes]], bytes]) -> None:
    card = task(Download(url=server.serve("set.bin", make(FILES)), unpack_to="sets"))
    assert download(card, tmp_path) == tmp_path / "sets/set"
    assert tree(tmp_path / "sets") == FILES


def test_a_second_download_touches_nothing_even_without_the_archive(server: Server, tmp_path: Path) -> None:
    card = task(Download(url=server.serve("set.zip", zipped(FILES)), unpack_to="sets"))
    download(card, tmp_path)
    (tmp_path / "downloads/set.zip").unlink()
    download(card, tmp_path)
    assert len(server.requests("set.zip")) == 1


def test_data_deleted_by_the_user_come_back_from_the_kept_archive(server: Server, tmp_path: Path) -> None:
    card = task(Download(url=server.serve("set.zip", zipped(FILES)), unpack_to="sets"))
    (download(card, tmp_path)).rename(tmp_path / "elsewhere")
    download(card, tmp_path)
    assert tree(tmp_path / "sets") == FILES
    assert len(server.requests("set.zip")) == 1


def test_a_break_is_survived_and_a_kill_leaves_nothing_half_written(server: Server, tmp_path: Path) -> None:
    content = zipped(FILES, zipfile.ZIP_STORED)
    card = task(Download(url=server.serve("set.zip", content, breaks=[2000] + [0] * 9), unpack_to="sets"))
    with pytest.raises(UserError, match="stopped at 2000"):
        download(card, tmp_path)
    assert not (tmp_path / "sets").exists()
    server.files["/set.zip"].breaks = [1000]
    download(card, tmp_path)
    assert [request.get("Range") for request in server.requests("set.zip")[-2:]] == ["bytes=2000-", "bytes=3000-"]
    assert tree(tmp_path / "sets") == FILES


def test_a_kill_while_unpacking_is_cleared_away(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = task(Download(url=server.serve("set.zip", zipped(FILES)), unpack_to="sets"))

    def killed(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unpacking, "merge", killed)
        with pytest.raises(KeyboardInterrupt):
            download(card, tmp_path)
    assert tree(tmp_path / "sets") == {}
    # What a kill that runs no clean-up leaves.
    (tmp_path / "sets/.set.zip.unpacking/set").mkdir(parents=True)
    (tmp_path / "sets/.set.zip.unpacking/set/half").write_bytes(b"half")
    download(card, tmp_path)
    assert tree(tmp_path / "sets") == FILES


def test_two_archives_share_a_folder(server: Server, tmp_path: Path) -> None:
    first = Download(url=server.serve("1.zip", zipped({"set/images/a.jpg": b"1"})), unpack_to="sets")
    second = Download(url=server.serve("2.tar", tarred({"set/images/b.jpg": b"2", "set/images/a.jpg": b"1"}, "w")), unpack_to="sets")
    download(task(first, second), tmp_path)
    assert tree(tmp_path / "sets") == {"set/images/a.jpg": b"1", "set/images/b.jpg": b"2"}


def test_a_users_own_file_is_never_overwritten(server: Server, tmp_path: Path) -> None:
    own = tmp_path / "sets/set/images/a.jpg"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    with pytest.raises(UserError, match="exists already, and differs"):
        download(task(Download(url=server.serve("set.zip", zipped(FILES)), unpack_to="sets")), tmp_path)
    assert own.read_bytes() == b"mine"


def test_nothing_is_written_through_a_link_in_the_data_folder(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets/set").symlink_to(tmp_path / "elsewhere")
    archive = tmp_path / "set.zip"
    archive.write_bytes(zipped(FILES))
    with pytest.raises(UserError, match="contains something else under this name"):
        unpack(archive, tmp_path / "sets", "toy")
    assert tree(tmp_path / "elsewhere") == {}


HOSTILE_NAMES = ["../escape", "/etc/escape", "set/../../escape", "..\\escape", "C:\\escape", "C:/escape", "set/..", "."]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_name_that_leads_out_is_refused_and_nothing_is_kept(
    server: Server, tmp_path: Path, name: str, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    card = task(Download(url=server.serve("set.bin", make({**FILES, name: b"x"})), unpack_to="sets"))
    with pytest.raises(UserError, match="points outside its folder"):
        download(card, tmp_path / "root")
    assert tree(tmp_path / "root/sets") == {}
    assert not list(tmp_path.rglob("escape"))


@given(st.text(min_size=1))
def test_no_name_at_all_leads_out(name: str) -> None:
    base = Path("/base")
    try:
        path = base.joinpath(*entry_path(name, Path("x.zip")).parts)
    except UserError:
        return
    assert path.is_relative_to(base) and path != base and ".." not in path.parts


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("set/thing")
    info.type, info.linkname = kind, "set/images/a.jpg"
    (tmp_path / "set.tar").write_bytes(tarred(FILES, "w", [info]))
    with pytest.raises(UserError, match=r"set/thing.*a link, a device"):
        unpack(tmp_path / "set.tar", tmp_path / "sets", "toy")
    assert tree(tmp_path / "sets") == {}


def test_every_member_of_a_tar_passes_pythons_own_filter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo:
        raise tarfile.TarError(f"{member.name} is refused")

    (tmp_path / "set.tar").write_bytes(tarred(FILES, "w"))
    monkeypatch.setattr(tarfile, "data_filter", refusing, raising=False)  # Python before 3.11.4 has none
    with pytest.raises(UserError, match="the archive is damaged"):
        unpack(tmp_path / "set.tar", tmp_path / "sets", "toy")


def test_a_tar_of_folders_alone_comes_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tarfile.TarInfo("set")
    folder.type = tarfile.DIRTYPE
    (tmp_path / "set.tar").write_bytes(tarred({}, "w", [folder] * 9))
    monkeypatch.setattr(unpacking, "MAX_FOLDERS", 8)
    with pytest.raises(UserError, match="more than 8 folders"):
        unpack(tmp_path / "set.tar", tmp_path / "sets", "toy")


def test_folders_are_counted_that_no_entry_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_FOLDERS", 8)
    for make in (zipped, tarred):
        (tmp_path / "set.bin").write_bytes(make({f"set/{number}/a": b"" for number in range(9)}))
        with pytest.raises(UserError, match="more than 8 folders"):
            unpack(tmp_path / "set.bin", tmp_path / "sets", "toy")
    (tmp_path / "set.zip").write_bytes(zipped({f"set/{number}/": b"" for number in range(9)}))
    with pytest.raises(UserError, match="more than 8 folders"):
        unpack(tmp_path / "set.zip", tmp_path / "sets", "toy")
    assert tree(tmp_path / "sets") == {}


@pytest.mark.parametrize("name", ["a/" * 64 + "a", "a" * 1001])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_name_longer_or_deeper_than_any_data_set_has_is_refused(
    tmp_path: Path, name: str, make: Callable[[dict[str, bytes]], bytes]
) -> None:
    (tmp_path / "set.bin").write_bytes(make({name: b"x"}))
    with pytest.raises(UserError, match=r"it holds a name of .* parts, more than 1000 and 64"):
        unpack(tmp_path / "set.bin", tmp_path / "sets", "toy")


@pytest.mark.parametrize("name", [".set.bin.unpacking/a", "set/.x.zip.lock", ".set.77-0a1b.tmp/a", "a/.set.77-0a1b.old"])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_name_that_only_unfinished_work_has_is_refused(tmp_path: Path, name: str, make: Callable[[dict[str, bytes]], bytes]) -> None:
    (tmp_path / "set.bin").write_bytes(make({**FILES, name: b"x"}))
    with pytest.raises(UserError, match="a name that this program uses itself"):
        unpack(tmp_path / "set.bin", tmp_path / "sets", "toy")
    assert tree(tmp_path / "sets") == {}


def test_an_archive_for_the_data_root_cannot_pass_for_another_download(server: Server, tmp_path: Path) -> None:
    files = {**FILES, "downloads/other.zip": b"x", "downloads/other.zip.sha256": b"0"}
    card = task(Download(url=server.serve("set.zip", zipped(files)), unpack_to="."))
    with pytest.raises(UserError, match="it holds 'downloads', a name that this program uses itself"):
        download(card, tmp_path)
    assert sorted(path.name for path in (tmp_path / "downloads").iterdir() if path.suffix == ".zip") == ["set.zip"]


def test_a_list_of_entries_that_would_fill_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_LISTING", 100)
    (tmp_path / "set.zip").write_bytes(zipped(FILES))
    with pytest.raises(UserError, match="its list of entries claims 179 bytes"):
        unpack(tmp_path / "set.zip", tmp_path / "sets", "toy")


@pytest.mark.parametrize(
    "url", ["http://h/", "http://h/.hidden", "http://h/..%2f", "http://h/%00", "http://h/%ff.zip", f"http://h/{'a' * 300}"]
)
def test_an_address_that_ends_in_no_file_name_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="does not end in a file name"):
        download(task(Download(url=url, unpack_to="sets")), tmp_path)


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        info = zipfile.ZipInfo("set/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match=r"set/link.*a link"):
        unpack(tmp_path / "set.zip", tmp_path / "sets", "toy")


def test_a_zip_that_declares_too_much_is_refused_before_a_byte_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "FREE_BYTES", 1 << 10)
    (tmp_path / "set.zip").write_bytes(zipped({"bomb": bytes(10 << 20)}))
    with pytest.raises(UserError, match="claims to unpack to 10485760"):
        unpack(tmp_path / "set.zip", tmp_path / "sets", "toy")


def test_a_zip_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped({"bomb": bytes(10 << 20)}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = content.index(signature) + offset
        content[place : place + 4] = (100).to_bytes(4, "little")
    (tmp_path / "set.zip").write_bytes(content)
    with pytest.raises(UserError, match="damaged or cut short"):
        unpack(tmp_path / "set.zip", tmp_path / "sets", "toy")
    assert tree(tmp_path / "sets") == {}


def test_a_tar_bomb_is_stopped_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "FREE_BYTES", 1 << 10)
    (tmp_path / "set.tgz").write_bytes(tarred({"bomb": bytes(20 << 20)}))
    with pytest.raises(UserError, match="more than 200 times its size"):
        unpack(tmp_path / "set.tgz", tmp_path / "sets", "toy")
    assert tree(tmp_path / "sets") == {}


def test_more_entries_than_a_data_set_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_ENTRIES", 2)
    (tmp_path / "set.zip").write_bytes(zipped(FILES))
    with pytest.raises(UserError, match="more than 2 entries"):
        unpack(tmp_path / "set.zip", tmp_path / "sets", "toy")


@pytest.mark.parametrize("make", [zipped, tarred, lambda files: tarred(files, "w:xz"), lambda files: tarred(files, "w")])
@pytest.mark.parametrize("cut", [0.05, 0.4, 0.8])
def test_an_archive_cut_short_is_refused(tmp_path: Path, make: Callable[[dict[str, bytes]], bytes], cut: float) -> None:
    content = make({"set/a": bytes(range(256)) * 100, "set/b": bytes(range(255)) * 100})
    (tmp_path / "set.bin").write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(UserError, match=r"set\.bin: (the archive is damaged|it is neither)"):
        unpack(tmp_path / "set.bin", tmp_path / "sets", "toy")
    assert tree(tmp_path / "sets") == {}


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    content = bytearray(zipped(FILES, zipfile.ZIP_STORED))
    content[1000] ^= 1
    (tmp_path / "set.zip").write_bytes(content)
    with pytest.raises(UserError, match="damaged or cut short: Bad CRC-32"):
        unpack(tmp_path / "set.zip", tmp_path / "sets", "toy")


def test_a_name_given_twice_is_refused(tmp_path: Path) -> None:
    for files in ({"set/a": b"1", "set/a/b": b"2"}, {"set/a/b": b"2", "set/a": b"1"}):
        (tmp_path / "set.zip").write_bytes(zipped(files))
        with pytest.raises(UserError, match=r"it holds 'set/a(/b)?' twice"):
            unpack(tmp_path / "set.zip", tmp_path / "sets", "toy")
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a", "1")
        archive.writestr("a", "2")
    with pytest.raises(UserError, match="holds 'a' twice"):
        unpack(tmp_path / "set.zip", tmp_path / "sets", "toy")


def test_an_encrypted_or_empty_archive_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped({"a": b"1"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    (tmp_path / "set.zip").write_bytes(content)
    with pytest.raises(UserError, match="encrypted"):
        unpack(tmp_path / "set.zip", tmp_path / "sets", "toy")
    (tmp_path / "none.zip").write_bytes(zipped({}))
    with pytest.raises(UserError, match="holds no file"):
        unpack(tmp_path / "none.zip", tmp_path / "sets", "toy")


def test_a_server_that_lies_about_the_size_gives_no_data(server: Server, tmp_path: Path) -> None:
    content = zipped(FILES)
    card = task(Download(url=server.serve("set.zip", content, length=len(content) + 50), unpack_to="sets"))
    with pytest.raises(UserError, match="stopped"):
        download(card, tmp_path)
    assert not (tmp_path / "sets").exists()


def test_a_card_that_cannot_be_fetched_says_how_to_get_the_data(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must be downloaded by hand. Ask the owner."):
        download(task(), tmp_path)
    with pytest.raises(UserError, match="generated"):
        download(task(generator="rooms", generator_options={"layout": "rooms", "train": 1, "val": 1}), tmp_path)


def test_a_card_that_unpacks_elsewhere_is_refused(server: Server, tmp_path: Path) -> None:
    url = server.serve("set.zip", zipped(FILES))
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(UserError, match="points outside the data root"):
        download(task(Download(url=url, unpack_to="link/other")), tmp_path / "root")
    assert not (tmp_path / "other").exists()
    with pytest.raises(UserError, match="after unpacking, there is no folder sets/set"):
        download(task(Download(url=url, unpack_to="wrong")), tmp_path / "root")


def test_a_read_only_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(zipped(FILES))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        unpack(tmp_path / "set.zip", tmp_path / "file" / "sets", "toy")
