"""What a plan says of data of one's own, which no card counts, and of data that are not here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from tips_bench.cli.app import app
from tips_bench.evaluation.estimate import estimate
from tips_bench.evaluation.spec import resolve
from tips_bench.evaluation.task_data import counted_on_disk, is_absent


def test_of_own_data_the_files_are_counted_and_absent_data_are_known(shapes: Path) -> None:
    own = resolve("shapes", "pixels", "convex-224")
    unknown = replace(own, task=own.task.model_copy(update={"data": own.task.data.model_copy(update={"expected": {}})}))
    assert estimate([unknown], "fp32")[0].alone == 0
    assert estimate([counted_on_disk(unknown, None)], "fp32")[0].alone == 14 + 8
    assert counted_on_disk(unknown, shapes / "nowhere") is unknown
    assert is_absent(own, shapes / "nowhere") and not is_absent(own, None)
    rooms = resolve("rooms-seg", "pixels", "convex-224")
    assert not is_absent(rooms, shapes / "nowhere"), "rooms are generated when they are needed"


def test_a_plan_names_the_data_that_are_not_here(shapes: Path) -> None:
    done = CliRunner().invoke(app, ["run", "--task", "shapes,ade20k,voc2012", "--model", "pixels", "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "Not here: the data of ade20k, voc2012. How to get them: tips-bench show TASK." in " ".join(done.stdout.split())
