"""Records: what is written is read back, and a file that is no record is named with its fault."""

import json
import math
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from tests.helpers.records import record as made
from tips_bench.errors import UserError
from tips_bench.memory import peak_memory_mb, reset_peak_memory
from tips_bench.results.cost import Cost
from tips_bench.results.provenance import git_state, version_of, versions
from tips_bench.results.record import SCHEMA, DatasetIdentity, MetricValue, Record, Selection, load_record, record_path


def record(**changes) -> Record:
    fields = {
        "task": "ade20k",
        "family": "segmentation",
        "protocol": "convex",
        "protocol_hash": "12" * 32,
        "model": "tips-b14",
        "weights_sha256": "ef" * 32,
        "metrics": {"mIoU": MetricValue(value=100 / 3, unit="%", higher_is_better=True, ci95=(32.1, 34.9), n=2000)},
        "per_class": {"IoU": {"wall": 66.6, "sky": None}},
        "primary": "mIoU",
        "comparable": True,
        "deviations": [],
        "selection": Selection(metric="mIoU", grid=[{"l2": 0.1}, {"l2": 1.0}], scores=[30.0, None], choice=0, held_out=2021),
        "dataset": DatasetIdentity(
            name="ade20k",
            split="val",
            n=2000,
            fingerprint="ab" * 32,
            train_split="train",
            train_n=20210,
            train_fingerprint="cd" * 32,
            classes=["wall", "sky"],
        ),
        "cost": Cost(
            wall_s=61.5, encoder_s=50.0, image_forwards=22210, images_per_s=361.1, peak_memory_mb=900.5, device="cpu", dtype="float32"
        ),
        "versions": {"torch": "2"},
        "git_commit": None,
        "git_dirty": None,
        "command": "tips-bench run",
        "created": "2030-01-01T00:00:00Z",
        "per_sample": "convex-12121212.samples.npz",
        "seed": 0,
        "cards": {"task": {"name": "ade20k"}},
    }
    return Record(**(fields | changes))


def test_a_record_survives_the_file(tmp_path):
    record().save(tmp_path / "new" / "r.json")
    assert load_record(tmp_path / "new" / "r.json") == record()
    assert json.loads((tmp_path / "new" / "r.json").read_text())["schema"] == SCHEMA
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["r.json"]


@settings(max_examples=50, deadline=None)
@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_keeps_every_digit(value, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "digits.json"
    record(metrics={"mIoU": MetricValue(value=value, unit="%", higher_is_better=True, n=1)}).save(path)
    assert load_record(path).metrics["mIoU"].value == value


def test_a_metric_that_was_not_scored_is_null_in_the_file_and_nan_in_python(tmp_path):
    record(metrics={"mIoU": MetricValue(value=math.nan, unit="%", higher_is_better=True, n=0)}).save(tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text())["metrics"]["mIoU"]["value"] is None
    again = load_record(tmp_path / "r.json").metrics["mIoU"]
    assert math.isnan(again.value) and again.ci95 is None


def changed(path: Path, change) -> None:
    record().save(path)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(lambda data: data.update(schema="tips-bench/record/3"), "not a record of schema", id="schema"),
        pytest.param(lambda data: data.pop("schema"), "not a record of schema", id="no-schema"),
        pytest.param(lambda data: data.update(surprise=1), "surprise: Extra inputs", id="unknown"),
        pytest.param(lambda data: data["cost"].update(surprise=1), "cost.surprise: Extra inputs", id="unknown-inside"),
        pytest.param(lambda data: data.pop("seed"), "seed: Field required", id="missing"),
        pytest.param(lambda data: data["metrics"]["mIoU"].update(value="high"), "metrics.mIoU.value", id="type"),
        pytest.param(lambda data: data["metrics"]["mIoU"].update(ci95=[1.0]), "metrics.mIoU.ci95", id="interval"),
        pytest.param(lambda data: data.update(metrics=[]), "metrics", id="list"),
        pytest.param(lambda data: data.update(primary="mAP"), "primary: there is no metric 'mAP'", id="primary"),
        pytest.param(lambda data: data.update(per_sample="../../elsewhere.npz"), "per_sample: .*beside the record", id="per-sample"),
        pytest.param(lambda data: data.update(pictures=["/etc/passwd"]), "pictures: .*beside the record", id="pictures"),
    ],
)
def test_a_record_with_a_fault_is_refused_with_the_key(tmp_path, change, sentence):
    changed(tmp_path / "r.json", change)
    with pytest.raises(UserError, match=rf"r\.json: {sentence}"):
        load_record(tmp_path / "r.json")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe\x00", id="binary"),
        pytest.param(b'{"schema": "tips-bench/record/1"', id="cut"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"schema": ' + b"9" * 10_000 + b"}", id="long-number"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"schema": "tips-bench/record/1"}', id="bare"),
        pytest.param(b'{"schema": "tips-bench/record/2", "schema_": 5}', id="two-schemas"),
    ],
)
def test_hostile_json_is_one_sentence(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"r\.json: ") as caught:
        load_record(path)
    assert len(str(caught.value)) < 1000


def test_a_record_that_is_not_there_or_is_a_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        load_record(tmp_path / "none.json")
    with pytest.raises(UserError, match=r"a folder, not a record\. Give one record\.$"):
        load_record(tmp_path)
    path = tmp_path / "results" / "a-0123.json"
    path.parent.mkdir()
    record().save(path)
    with pytest.raises(UserError, match=f"Give one record, such as {path}"):
        load_record(tmp_path)


def test_a_record_is_whole_or_absent_when_the_folder_takes_no_file(tmp_path):
    (tmp_path / "results").write_text("a file where a folder is meant")
    with pytest.raises(UserError, match="cannot write"):
        record().save(tmp_path / "results" / "r.json")
    record().save(tmp_path / "r.json")
    before = (tmp_path / "r.json").read_bytes()
    with pytest.raises(PydanticSerializationError):
        record(cards={"task": {"value": object()}}).save(tmp_path / "r.json")
    assert (tmp_path / "r.json").read_bytes() == before


@pytest.mark.parametrize("value", [{"value": math.inf}, {"value": 1.0, "ci95": (0.0, math.nan)}, {"value": 1.0, "ci95": (-math.inf, 1.0)}])
def test_an_infinite_value_or_an_interval_of_nan_cannot_become_a_record(value):
    with pytest.raises(ValidationError, match="not finite"):
        MetricValue(unit="%", higher_is_better=True, n=1, **value)


def test_a_class_that_was_not_scored_is_null_in_the_file(tmp_path):
    record(per_class={"IoU": {"wall": math.nan, "sky": 1.5}}).save(tmp_path / "r.json")
    assert load_record(tmp_path / "r.json").per_class == {"IoU": {"wall": None, "sky": 1.5}}


def test_a_plain_name_is_its_own_file_name():
    path = record_path(Path("results"), "ade20k", "tips-so400m14", "linear-dinov2", "0a1b2c3d")
    assert path == Path("results/ade20k/tips-so400m14/linear-dinov2-0a1b2c3d.json")


def test_a_model_name_that_is_no_file_name_is_made_one():
    path = record_path(Path("r"), "ade20k", "timm:vit_base_patch14_dinov2", "convex", "0a1b2c3d")
    assert path.parent.name.startswith("timm-vit_base_patch14_dinov2~") and ":" not in str(path)


@settings(max_examples=300, deadline=None)
@given(names=st.lists(st.text(max_size=300), min_size=2, max_size=2, unique=True))
def test_two_names_never_share_a_file_and_none_leaves_the_folder(names):
    first, second = (record_path(Path("/out"), "t", name, "p", "00000000") for name in names)
    assert first != second
    for path in (first, second):
        assert path == Path(os.path.normpath(path)) and len(path.parts) == 5 and len(os.fsencode(path.parent.name)) < 200


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.example", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_the_git_state_is_the_commit_and_whether_files_differ_from_it(tmp_path, monkeypatch):
    git(tmp_path, "init", "-q")
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert git_state(package) == (commit, False)
    (tmp_path / "notes.txt").write_text("outside the package")
    assert git_state(package) == (commit, False)
    (package / "b.py").write_text("untracked")
    assert git_state(package) == (commit, True)
    (package / "b.py").unlink()
    (package / "a.py").write_text("2")
    assert git_state(package) == (commit, True)


def test_a_package_installed_inside_somebody_elses_checkout_has_no_commit(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text(".venv\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "theirs")
    installed = tmp_path / ".venv" / "tips_bench"
    installed.mkdir(parents=True)
    (installed / "a.py").write_text("1")
    assert git_state(installed) == (None, None)


def test_without_git_or_a_repository_there_is_no_state(tmp_path, monkeypatch):
    assert git_state(tmp_path) == (None, None)
    assert git_state(tmp_path / "missing") == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(Path(__file__).parent) == (None, None)


def test_versions_are_those_of_the_installed_packages():
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["python"] == sys.version.split()[0]


@pytest.mark.parametrize(("own", "said"), [("2.13.0+cu130", "2.13.0+cu130"), ("2.12.9", "2.13.0"), ("2.13.01", "2.13.0"), (None, "2.13.0")])
def test_a_version_names_the_build_where_the_module_does(own, said, monkeypatch):
    monkeypatch.setattr(metadata, "version", lambda name: "2.13.0")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__=own))
    assert version_of("torch") == said


def test_peak_memory_is_at_least_what_is_resident_and_sees_a_new_array():
    reset_peak_memory()
    before = peak_memory_mb()
    assert before >= 0.9 * psutil.Process().memory_info().rss / 1e6
    block = np.ones(30_000_000)
    assert peak_memory_mb() > before + 200
    del block
    assert peak_memory_mb() > before + 200
    if sys.platform == "linux":
        reset_peak_memory()
        assert peak_memory_mb() < before + 200


def test_reading_a_record_loads_neither_torch_nor_mmengine(tmp_path):
    record().save(tmp_path / "r.json")
    code = "\n".join(
        [
            "import sys",
            "from tips_bench.results.record import load_record",
            "from tips_bench.memory import peak_memory_mb",
            "from tips_bench.results.provenance import versions",
            f"load_record({str(tmp_path / 'r.json')!r}), versions(), peak_memory_mb()",
            "sys.exit(bool({'torch', 'mmengine', 'tips_bench.registry'} & set(sys.modules)))",
        ]
    )
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_pictures_of_all_samples_are_enough_and_the_sheet_does_not_count() -> None:
    few = made("ade20k", "m", None).model_copy(update={"pictures": ["s.png", "1.png", "2.png"], "pictured": ["a", "b"]})
    assert few.has_pictures(0) and few.has_pictures(2) and not few.has_pictures(3)
    assert few.model_copy(update={"dataset": few.dataset.model_copy(update={"n": 2})}).has_pictures(100)
