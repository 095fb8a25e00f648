"""Pieces of a step are done once, wherever they are done and however often the step is started."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tips_bench.claims import claimed
from tips_bench.corpus import pieces
from tips_bench.corpus.pieces import Piece, begin, run_pieces
from tips_bench.corpus.store import BEGUN, Manifest, save_manifest
from tips_bench.corpus.target import Target
from tips_bench.errors import UserError
from tips_bench.executors.chosen import Chosen
from tips_bench.files import write_text

HERE = "tests.unit.test_corpus_pieces"


def mark(file: str, text: str) -> None:
    """A piece: adds a line to `calls` and writes its file."""
    with Path(file).with_name("calls").open("a") as calls:
        calls.write(f"{text}\n")
    write_text(Path(file), text)


def fail(file: str) -> None:
    raise UserError("there is no light", where=file, fix="Switch it on.")


def nothing(file: str) -> None:
    """A piece that writes no file."""


def ended(file: str) -> None:
    """A piece at whose end another command ends the step, and removes the files of pieces."""
    write_text(Path(file).with_name("corpus.json"), "{}")


def marks(folder: Path, *names: str) -> list[Piece]:
    return [Piece(f"{HERE}:mark", {"file": str(folder / name), "text": name}, folder / name) for name in names]


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().split()


def test_a_piece_whose_file_is_there_is_not_done_again(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("as it was")
    run_pieces(marks(tmp_path, "a", "b", "c"), "marks")
    run_pieces(marks(tmp_path, "a", "b", "c"), "marks")
    assert calls(tmp_path) == ["a", "c"] and (tmp_path / "b").read_text() == "as it was"
    assert not (tmp_path / ".pieces").exists()


def test_a_command_that_comes_late_does_no_piece_of_a_step_that_another_has_ended(tmp_path: Path) -> None:
    (piece,), whole = marks(tmp_path, "a"), tmp_path / "corpus.json"
    whole.write_text("{}")  # and the files of pieces are gone
    pieces.do_piece(piece.function, piece.arguments, str(piece.done), str(whole))
    assert not (tmp_path / "calls").exists()
    run_pieces([piece], "marks", whole=whole)
    assert not (tmp_path / "calls").exists() and not (tmp_path / ".pieces").exists()


def test_a_step_that_another_command_ends_at_the_end_of_a_piece_is_no_bug(tmp_path: Path) -> None:
    pieces.do_piece(f"{HERE}:ended", {"file": str(tmp_path / "a")}, str(tmp_path / "a"), str(tmp_path / "corpus.json"))
    assert not (tmp_path / "a").exists()


def test_the_sentence_of_a_piece_that_fails_is_raised_and_it_is_tried_again_the_next_time(tmp_path: Path) -> None:
    bad = Piece(f"{HERE}:fail", {"file": "lamp"}, tmp_path / "b")
    for _ in range(2):
        with pytest.raises(UserError, match=r"lamp: there is no light\. Switch it on\."):
            run_pieces([*marks(tmp_path, "a"), bad, *marks(tmp_path, "c")], "marks")
    assert calls(tmp_path) == ["a"]
    run_pieces(marks(tmp_path, "a", "b", "c"), "marks")
    assert calls(tmp_path) == ["a", "b", "c"]


def test_a_piece_that_leaves_no_file_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="has not written"):
        run_pieces([Piece(f"{HERE}:nothing", {"file": ""}, tmp_path / "a")], "marks")


def test_a_piece_that_another_process_does_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "LOOK_AGAIN_S", 0.01)
    first, second = marks(tmp_path, "a", "b")
    with claimed(first.running) as ours:
        assert ours
        waiting = threading.Thread(target=run_pieces, args=([first, second], "marks"))
        waiting.start()
        while not second.done.is_file():
            waiting.join(0.01)
        assert waiting.is_alive() and calls(tmp_path) == ["b"]
        first.done.write_text("theirs")
    waiting.join()
    assert calls(tmp_path) == ["b"] and first.done.read_text() == "theirs"


def test_a_piece_whose_process_ended_without_its_file_is_done_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "LOOK_AGAIN_S", 0.01)
    first, second = marks(tmp_path, "a", "b")
    with claimed(first.running):
        waiting = threading.Thread(target=run_pieces, args=([first, second], "marks"))
        waiting.start()
        while not second.done.is_file():
            waiting.join(0.01)
    waiting.join()
    assert calls(tmp_path) == ["b", "a"]


def test_a_folder_belongs_to_one_step_with_one_set_of_settings(tmp_path: Path) -> None:
    folder, target = tmp_path / "raw", Target(tmp_path / "raw", tmp_path / "raw")
    folder.mkdir()
    (folder / f".{BEGUN}.12-ab.tmp").touch()  # of a command that was killed just then
    assert begin(target, "fetch", {"seed": 1}) is False
    assert begin(target, "fetch", {"seed": 1}) is False, "taken up"
    with pytest.raises(UserError, match="made in another way than this `fetch`"):
        begin(target, "fetch", {"seed": 2})
    save_manifest(folder, Manifest())
    assert begin(target, "fetch", {"seed": 1}) is True, "whole"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").touch()
    with pytest.raises(UserError, match="not empty"):
        begin(Target(tmp_path / "other", tmp_path / "other"), "fetch", {})


def test_many_pieces_are_few_jobs_that_hold_each_piece_once(tmp_path: Path) -> None:
    many = marks(tmp_path, *(f"{number}" for number in range(2500)))
    for chosen, most in ((Chosen("slurm", {}), 1000), (Chosen("local", {}, at_once=3), 12)):
        jobs = pieces._as_jobs(many, chosen)
        held = [one["done"] for job in jobs for one in job["arguments"]["pieces"]]
        assert len(jobs) == most and sorted(held) == sorted(str(one.done) for one in many)
    assert len(pieces._as_jobs(many[:2], Chosen("slurm", {}))) == 2
