"""examples/scale: the files for Kubernetes and SkyPilot name what they use, and their commands are commands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.contract.test_docs import named_verb
from tests.helpers.commands import calls

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "scale"
OF_A_TASK = {"name", "resources", "file_mounts", "setup", "run"}  # that the file uses, of the fields that SkyPilot's schema has
OF_RESOURCES = {"accelerators", "use_spot"}


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


def check_runs(script: str) -> None:
    """Some of its commands are `tips-bench run`, whose options are there."""
    found = [words for line in script.replace("\\\n", " ").splitlines() for words in calls(line)]
    assert found and all(words[0] == "run" for words in found)
    for words in found:
        verb, given = named_verb(words)
        assert verb.make_context("tips-bench", given).params["on"] == "local"


def test_the_kubernetes_job_names_its_volumes_and_starts_evaluations_again() -> None:
    job = read("kubernetes.yaml")
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["restartPolicy"] == "OnFailure" and container["resources"]["limits"]["nvidia.com/gpu"] == 8
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounts.keys() == {one["name"] for one in pod["volumes"]}
    (cache,) = (one["value"] for one in container["env"] if one["name"] == "TIPS_BENCH_CACHE")
    assert cache.startswith(f"{mounts['volume']}/"), "features outlive the pod"
    check_runs("\n".join(container["args"]))


def test_the_skypilot_task_has_known_fields_and_keeps_all_but_the_features(tmp_path: Path) -> None:
    task = read("skypilot.yaml")
    assert task.keys() <= OF_A_TASK and task["resources"].keys() <= OF_RESOURCES
    check_runs(task["run"])
    keep = re.search(r"^keep\(\) .*$", task["run"], re.MULTILINE)
    assert keep is not None and task["run"].count("keep\n") == 1 and "do keep; done" in task["run"]
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    for name in ("ade20k/tips-b14/convex.json", "ade20k/tips-b14/.convex.work/part-a.bin", ".matrix/evaluations.json", ".features/big.bin"):
        (tmp_path / "results" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "results" / name).write_text(name)
    script = keep[0].replace("/volume/results", str(bucket)) + "\nkeep"
    subprocess.run(["sh", "-c", script], cwd=tmp_path, check=True)
    kept = sorted(str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file())
    assert kept == [".matrix/evaluations.json", "ade20k/tips-b14/.convex.work/part-a.bin", "ade20k/tips-b14/convex.json"]
