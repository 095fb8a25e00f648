"""Submissions: what is honest passes, and everything that is not is refused with its reason, all of it at once."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.results_sets import draw_counts, write_record
from tips_bench.cards import load_card
from tips_bench.catalog import card_files
from tips_bench.errors import UserError
from tips_bench.leaderboard import ranking as boards
from tips_bench.leaderboard.site import build
from tips_bench.leaderboard.submission import validate
from tips_bench.results import untrusted_input as guards
from tips_bench.results.protocol_hash import protocol_hash
from tips_bench.results.record import Deviation


def card_of(kind: str, name: str, task: str = "rooms-seg") -> dict[str, Any] | None:
    """Our cards; the data set of rooms-seg is as small as the tests' records."""
    if name not in card_files(kind):
        return None
    card = load_card(kind, name).model_dump(mode="json")  # type: ignore[arg-type]
    if kind == "task":
        card["data"]["expected"] = {"train": 96, "val": 24}
    return card


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    write_record(tmp_path / "sent", "pixels", 0.5, pictures=1, cards=cards())
    return tmp_path / "sent"


def cards(**changes: dict[str, Any]) -> dict[str, Any]:
    found = {kind: card_of(kind, name) for kind, name in (("task", "rooms-seg"), ("protocol", "convex-224"), ("model", "pixels"))}
    return found | changes


def the_record(folder: Path) -> Path:
    return next(folder.rglob("*.json"))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = the_record(folder)
    data = json.loads(path.read_text())
    edit(data)
    path.write_text(json.dumps(data))


def problems(folder: Path, **options: Any) -> list[str]:
    return [fault.problem for fault in validate(folder, card_of, **options).faults]


def test_what_an_evaluation_wrote_passes(sent: Path) -> None:
    (sent / "README.md").write_text("Our encoder.")
    review = validate(sent, card_of)
    assert (review.records, review.faults, review.notes) == (1, [], [])


def selection(**changes: Any) -> dict[str, Any]:
    return {"metric": "mIoU", "grid": [{"lr": 1.0}], "scores": [1.0], "choice": 0, "held_out": 3} | changes


FORGERIES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a better score": (lambda d: d["metrics"]["mIoU"].update(value=99.0), "metrics.mIoU.value = 99.0, the counts give"),
    "a score not scored": (lambda d: d["metrics"]["mAcc"].update(value=None), "metrics.mAcc.value = nan, the counts give"),
    "a narrower interval": (lambda d: d["metrics"]["mIoU"].update(ci95=[50.0, 50.1]), "metrics.mIoU.ci95"),
    "no interval": (lambda d: d["metrics"]["mIoU"].update(ci95=None), "metrics.mIoU.ci95 = None"),
    "the other direction": (lambda d: d["metrics"]["mIoU"].update(higher_is_better=False), "higher is better"),
    "more samples": (lambda d: d["metrics"]["mIoU"].update(n=2000), "metrics.mIoU.n = 2000"),
    "half a character": (lambda d: d["probe"].update({"\ud800": 1}), "surrogates not allowed"),
    "a choice outside the grid": (lambda d: d.update(selection=selection(choice=999)), "choice 999 of 1 points"),
    "scores of no points": (lambda d: d.update(selection=selection(scores=[])), "choice 0 of 1 points with 0 scores"),
    "another precision": (lambda d: d["cost"].update(dtype="int1"), "cost.dtype = 'int1'"),
    "another split": (lambda d: d["dataset"].update(split="moon"), "'moon' is the test split of the record"),
    "a number without end": (lambda d: d["cost"].update(image_forwards=10**320), "has 321 digits"),
    "a bottomless list": (lambda d: d["probe"].update(a=json.loads("[" * 900 + "]" * 900)), "nested more than 50 deep"),
    "a card that is none": (lambda d: d["cards"].update(model="x"), "cards.model: Input should be a valid dictionary"),
    "another source": (lambda d: d["cards"]["model"].update(source="timm"), "source = 'timm', our card's is 'pixels'"),
    "a score of classes of its own": (lambda d: d["per_class"].update(zzz={"a": 1.0}), "per_class.zzz: a segmentation record has no"),
    "a metric of its own": (lambda d: d["metrics"].update(wow=d["metrics"]["mIoU"]), "no such metric"),
    "a metric left out": (lambda d: d["metrics"].pop("mAcc"), "metrics.mAcc is missing"),
    "a class": (lambda d: d["per_class"]["IoU"].update(chair=100.0), "per_class.IoU is not what the counts give for 'chair'"),
    "a larger data set": (lambda d: d["dataset"].update(n=2000), "dataset.n = 2000"),
    "an easier training set": (lambda d: d["dataset"].update(train_n=9), "9 samples of 'train', where the data set has 96"),
    "a class twice": (lambda d: d["dataset"].update(classes=["a", "a", "b", "c", "d", "e"]), "names a class twice"),
    "another primary": (lambda d: d.update(primary="aAcc"), "primary = 'aAcc', the task's is 'mIoU'"),
    "an unknown task": (lambda d: d.update(task="mine"), "there is no task 'mine' here"),
    "an unknown protocol": (lambda d: d.update(protocol="mine"), "there is no protocol 'mine' here"),
    "another protocol's name": (lambda d: d.update(protocol="linear-tips"), "cards.protocol.name = 'convex-224'"),
    "a protocol hash": (lambda d: d.update(protocol_hash="0" * 64), "protocol_hash is not the hash of the protocol"),
    "no cards": (lambda d: d["cards"].pop("protocol"), "cards.protocol is missing"),
    "a changed model": (lambda d: d["cards"]["model"].update(patch_size=4), "patch_size: 4 in the record"),
    "deviations denied": (
        lambda d: d.update(deviations=[{"card": "run", "key": "limit", "value": 24, "text": "limit = 24 images of each split"}]),
        "comparable = true with 1 deviations",
    ),
    "no reason": (lambda d: d.update(comparable=False), "comparable = false with 0 deviations"),
    "a cost below zero": (lambda d: d["cost"].update(wall_s=-1.0), "a cost below zero"),
    "counts elsewhere": (lambda d: d.update(per_sample="other.samples.npz"), "is not the file of this record's name"),
    "counts above": (lambda d: d.update(per_sample="../../x.samples.npz"), "is not a file beside the record"),
    "a picture above": (lambda d: d.update(pictures=["/etc/passwd"]), "is not a file beside the record"),
    "another schema": (lambda d: d.update(schema="tips-bench/record/9"), "not a record of schema"),
    "a new key": (lambda d: d.update(trust=True), "Extra inputs"),
    "markup in the name": (lambda d: d.update(model="<script>alert(1)</script>"), "model holds '<', which a name does not"),
    "text turned round": (lambda d: d.update(model="tips\u202e41b"), "model holds the invisible character U+202E"),
    "an escape sequence": (lambda d: d.update(command="\x1b[2Jrm"), "command holds the invisible character U+001B"),
    "a name of a megabyte": (lambda d: d.update(model="x" * 1_000_000), "1,000,000 characters, more than 200"),
    "infinity": (lambda d: d["metrics"]["mIoU"].update(value=1e999), "is not finite"),
}


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda name: name.replace(" ", "-"))
def test_is_refused_with_its_reason(sent: Path, forgery: str) -> None:
    edit, reason = FORGERIES[forgery]
    change(sent, edit)
    assert any(reason in problem for problem in problems(sent)), problems(sent)


def test_a_picture_of_a_sample_that_was_not_scored_is_refused(tmp_path: Path) -> None:
    path = write_record(tmp_path / "sent", "pixels", 0.5, pictured=[3, 5], cards=cards())
    assert problems(tmp_path / "sent") == []
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | {"pictured": ["elsewhere", data["pictured"][1]]}))
    assert problems(tmp_path / "sent") == ["pictured: 'elsewhere' is no sample of the counts"]


def test_every_fault_is_listed(sent: Path) -> None:
    for name in ("a better score", "a class", "a changed model", "a cost below zero", "markup in the name"):
        change(sent, FORGERIES[name][0])
    found = problems(sent)
    for name in ("a better score", "a class", "a cost below zero", "markup in the name"):
        assert any(FORGERIES[name][1] in problem for problem in found)


def test_a_changed_protocol_must_be_declared_and_then_stands_on_no_board(tmp_path: Path) -> None:
    card = card_of("protocol", "convex-224")
    used = card | {"image": card["image"] | {"short_side": 448}}
    changed = {"cards": cards(protocol=used), "protocol_hash": protocol_hash(used)}
    write_record(tmp_path / "quiet", "pixels", 0.5, **changed)
    (problem,) = problems(tmp_path / "quiet")
    assert problem.startswith("protocol 'convex-224' is not ours, and does not say so: image.short_side: 448 in the record, 224")
    said = [Deviation(card="protocol", key="image.short_side", value=448, card_value=224)]
    write_record(tmp_path / "said", "pixels", 0.5, comparable=False, deviations=said, **changed)
    review = validate(tmp_path / "said", card_of)
    assert review.faults == []
    assert review.notes[0].problem == "not comparable, so on no board: protocol.image.short_side = 448 (card: 224)"


def test_one_data_set_has_one_fingerprint(tmp_path: Path) -> None:
    write_record(tmp_path, "pixels", 0.5, cards=cards())
    path = write_record(tmp_path, "pixels", 0.6, seed=1, cards=cards())
    data = json.loads(path.read_text())
    data["dataset"]["fingerprint"] = "a" * 64
    path.write_text(json.dumps(data))
    assert problems(tmp_path) == [
        "fingerprint of 'val' of rooms-seg = aaaaaaaaaaaa, that of rooms-seg/pixels/convex-224-00000000.json is ffffffffffff"
    ]


def test_the_data_must_be_that_of_the_accepted_records(sent: Path, tmp_path: Path) -> None:
    write_record(tmp_path / "accepted", "tips-b14", 0.7)
    accepted = boards.read([tmp_path / "accepted"])[0]
    assert problems(sent, accepted=accepted) == []
    change(sent, lambda data: data["dataset"].update(fingerprint="b" * 64))
    assert any("that of the accepted records is" in problem for problem in problems(sent, accepted=accepted))
    change(sent, lambda data: data["dataset"].update(fingerprint="f" * 64))
    counts = draw_counts(0.5, 24)
    other = type(counts)(counts.classes)
    for id, group, values in zip(counts.ids, counts.groups, counts.counts_N, strict=True):
        other.update(f"easy/{id}", group, values)
    other.save(next(sent.rglob("*.npz")))
    assert "its samples are not those of the accepted records of the same data" in problems(sent, accepted=accepted)


def test_what_a_run_leaves_beside_a_record_is_no_fault(sent: Path) -> None:
    record = next(path for path in sent.rglob("*.json"))
    record.with_suffix(".log").write_text("2026-11-27 info settings\n")
    record.with_suffix(".predictions").mkdir()
    (record.with_suffix(".predictions") / "easy-1.png").write_bytes(b"x")
    (sent / ".matrix" / "logs").mkdir(parents=True)
    (sent / ".matrix" / "logs" / "0.log").write_text("")
    assert problems(sent) == []
    record.with_name("other.log").write_text("")
    assert problems(sent) == ["belongs to no record"]


def test_links_strange_files_and_hidden_ones_are_refused(sent: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    (sent / "rooms-seg" / "stolen.json").symlink_to(tmp_path / "secret")
    (sent / "folder").symlink_to(tmp_path)
    (sent / "run.sh").write_text("rm -rf /")
    os.mkfifo(sent / "pipe")
    (sent / "bad\nname.json").write_text("{}")
    found = {fault.where: fault.problem for fault in validate(sent, card_of).faults}
    assert found["'rooms-seg/stolen.json'"].startswith("a symbolic link")
    assert found["'folder'"].startswith("a symbolic link")
    assert found["run.sh"] == "belongs to no record"
    assert found["pipe"] == "not a regular file"
    assert "U+000A" in found["'bad\\nname.json'"]


def test_a_record_in_the_wrong_folder_is_refused(sent: Path) -> None:
    (sent / "rooms-seg" / "pixels").rename(sent / "rooms-seg" / "tips-g14")
    assert problems(sent)[0].startswith("lies in another place than the record says: rooms-seg/pixels/convex-224-*")


def npz(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


def array(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, values, allow_pickle=values.dtype.hasobject)
    return file.getvalue()


def test_a_zip_bomb_is_refused_before_it_is_unpacked(sent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MAX_UNPACKED", 1_000_000)
    text = array(np.array(["a"]))
    npz(next(sent.rglob("*.npz")), ids=text, groups=text, counts=bytes(3_000_000))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("it was read"))
    assert any("counts.npy unpacks from" in problem for problem in problems(sent))


@pytest.mark.parametrize("limit", ["MAX_JSON", "MAX_COUNTS", "MAX_PICTURE"])
def test_a_huge_file_is_refused_before_it_is_read(sent: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(guards, limit, 10)
    monkeypatch.setattr("tips_bench.leaderboard.submission.MAX_JSON", guards.MAX_JSON)
    assert any("MB allowed" in problem or "more than the" in problem for problem in problems(sent))


def test_counts_with_pickles_other_members_or_cut_short_are_refused(sent: Path) -> None:
    path = next(sent.rglob("*.npz"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert any("not a file of per-sample counts, or a broken one" in problem for problem in problems(sent))
    text = array(np.array(["a"]))
    npz(path, ids=text, groups=text, counts=array(np.array([{"run": 1}], dtype=object)))
    assert any("not a file of per-sample counts" in problem for problem in problems(sent))
    npz(path, ids=text, groups=text, counts=text, extra=text)
    assert any("holds 'ids.npy'" in problem for problem in problems(sent))
    path.unlink()
    assert any(problem.endswith("no such file") for problem in problems(sent))


def test_a_picture_that_is_none_or_too_large_is_refused(sent: Path) -> None:
    picture = next(sent.rglob("*.png"))
    picture.write_bytes(b"<svg onload=alert(1)>")
    assert any(problem.endswith("not a PNG picture") for problem in problems(sent))
    picture.write_bytes(guards.PNG + b"\0\0\0\x0dIHDR" + (100_000).to_bytes(4, "big") * 2)
    assert any("a picture of 100000 x 100000 pixels" in problem for problem in problems(sent))


def test_json_that_is_no_record_is_a_fault(sent: Path) -> None:
    (sent / "deep.json").write_text("[" * 100_000)
    (sent / "list.json").write_text("[]")
    found = {fault.where: fault.problem for fault in validate(sent, card_of).faults}
    assert found["deep.json"].startswith("not JSON")
    assert found["list.json"].startswith("not a record of schema")


def test_an_empty_folder_is_no_submission(tmp_path: Path) -> None:
    assert problems(tmp_path) == ["holds no records"]
    with pytest.raises(UserError, match="no such folder"):
        validate(tmp_path / "nowhere", card_of)


@given(st.text(alphabet=st.characters(categories=["L", "N"]), max_size=guards.MAX_NAME))
def test_a_name_of_letters_and_digits_is_never_hostile(name: str) -> None:
    assert guards.hostile(name, name=True) is None


@given(st.text(), st.characters(categories=["Cc", "Cf"]), st.text())
def test_an_invisible_character_in_a_name_always_is(before: str, hidden: str, after: str) -> None:
    assert guards.hostile(before + hidden + after, name=True) is not None


@pytest.mark.parametrize("forgery", ["half a character", "a number without end", "a bottomless list", "a card that is none"])
def test_what_is_refused_stops_no_site(sent: Path, tmp_path: Path, forgery: str) -> None:
    write_record(tmp_path / "good", "tips-nano", 0.5, cards=cards())
    change(sent, FORGERIES[forgery][0])
    built = build([sent, tmp_path / "good"], tmp_path / "site")
    assert built.records == 1 and len(built.broken) == 1


@pytest.mark.parametrize("ending", [".samples.npz", "0.png"])
def test_a_file_that_cannot_be_read_is_a_fault_and_stops_no_site(sent: Path, tmp_path: Path, ending: str, monkeypatch: Any) -> None:
    write_record(tmp_path / "good", "tips-nano", 0.5, cards=cards())
    opened = io.open

    def refuse(path: Any, *arguments: Any, **options: Any) -> Any:
        if str(path).endswith(ending) and "sent" in str(path):
            raise PermissionError(13, "Permission denied")
        return opened(path, *arguments, **options)

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    assert any("cannot read: Permission denied" in problem for problem in problems(sent))
    assert len(build([sent, tmp_path / "good"], tmp_path / "site").broken) == 1
