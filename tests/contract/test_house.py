"""The house: who may import whom, how deep, how long a file may be, and which words never appear.

Imports are read from the syntax tree of every file, those inside functions too.
"""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tips_bench"
MAX_LINES = 400
GROUND = {"errors", "registry", "cards", "catalog", "files", "fetch", "progress", "open3d", "openmmlab", "plain_yaml", "plugins", "npz"}
GROUND |= {
    "git",
    "claims",
    "loggers",
    "image_card",
    "journal",
    "memory",
    "plain_data",
    "ranks",
    "strict",
    "terminal",
    "web",
    "variants",
    "input_size",
    "window_card",
    "prompt_card",
    "upsampler_card",
    "loopback",
    "heartbeat",
    "wording",
}

# floor -> what it may import besides the ground and itself
MAY_IMPORT: dict[str, set[str]] = {
    "models": set(),
    "metrics": set(),
    "rooms": set(),
    "results": {"metrics"},
    "leaderboard": {"results", "metrics"},
    "encoders": {"models"},
    "data": set(),
    "pictures": {"data", "results"},
    "features": {"encoders", "data"},
    "probes": {"features", "encoders", "models", "data", "metrics"},
    "adapters": {"encoders", "data", "features", "probes", "metrics", "pictures"},
    "evaluation": {"adapters", "data", "encoders", "features", "probes", "metrics", "results", "rooms"},
    "executors": {"evaluation", "models", "results"},
    "training": {"models", "data", "metrics", "rooms"},
    "starters": set(),
    "corpus": {"training", "executors", "encoders", "models", "features", "data", "rooms"},
    "integrations": {"models", "encoders"},
    "explorer": {"evaluation", "results", "encoders", "data", "features", "pictures", "probes", "rooms"},
    "cli": {
        "explorer",
        "corpus",
        "starters",
        "executors",
        "evaluation",
        "adapters",
        "features",
        "training",
        "models",
        "encoders",
        "data",
        "rooms",
        "results",
        "leaderboard",
        "integrations",
    },
}
HEAVY = {"torch", "torchvision", "mmseg", "mmcv", "open3d", "timm", "transformers", "open_clip", "pandas", "matplotlib"}


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Dotted module name -> its syntax tree."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def is_typing_only(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that a tree imports, as written; `from a import b` counts as a.b where that is a module of ours.

    What stands under `if TYPE_CHECKING:` is not imported and does not count.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and is_typing_only(node.test):
            for other in node.orelse:
                yield from imports(other)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in sources() else str(node.module)
        else:
            yield from imports(node)


def ours(module: str) -> list[str]:
    return sorted({name for name in imports(sources()[module]) if name.split(".")[0] == "tips_bench"})


def floor(module: str) -> str:
    """The part of the house that a module belongs to: "models" for tips_bench.models.vision, "" for tips_bench itself."""
    return module.split(".")[1] if "." in module else ""


def test_every_folder_is_a_floor_of_the_house() -> None:
    folders = {floor(name) for name in sources()} - {"", "__main__"}
    assert folders <= GROUND | set(MAY_IMPORT), f"new: {sorted(folders - GROUND - set(MAY_IMPORT))}"


@pytest.mark.parametrize("name", sorted(sources()))
def test_a_module_imports_only_from_floors_below_it(name: str) -> None:
    here = floor(name)
    if here in ("", "__main__"):
        return  # the package's own names are resolved when they are used
    allowed = GROUND | ({here} | MAY_IMPORT[here] if here in MAY_IMPORT else set())
    wrong = [module for module in ours(name) if floor(module) not in allowed and module != "tips_bench"]
    assert not wrong, f"{name} may not import {wrong}"


def test_results_read_records_without_torch_or_cards() -> None:
    for name in sources():
        if floor(name) in ("results", "leaderboard"):
            direct = set(imports(sources()[name]))
            assert not {module.split(".")[0] for module in direct} & {"torch", "mmengine", "mmseg", "mmcv"}, name
            assert "tips_bench.cards" not in direct, name


def test_the_ground_imports_nothing_heavy_at_its_top() -> None:
    for name, tree in sources().items():
        if floor(name) in GROUND | {"", "__main__", "cli"}:
            top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
            assert not {module.split(".")[0] for module in imports(top)} & HEAVY, name


def test_no_import_goes_deeper_than_two_folders() -> None:
    deep = [(name, module) for name in sources() for module in ours(name) if module.count(".") > 3]
    assert not deep


def test_mmseg_is_imported_only_after_its_stand_in_was_put_in_place() -> None:
    for name, tree in sources().items():
        if "mmseg" in {module.split(".")[0] for module in imports(tree)}:
            top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
            assert not any(module.startswith("mmseg") for module in imports(top)), f"{name}: import mmseg inside a function"
            assert "tips_bench.openmmlab" in ours(name), f"{name}: call tips_bench.openmmlab.import_mmseg first"


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {name: [module for module in ours(name) if module != "tips_bench"] for name in sources()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for module in graph.get(name, []):
                visit(module, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_no_two_folders_import_each_other() -> None:
    edges = {(folder(name), folder(module)) for name in sources() for module in ours(name)}
    both = {tuple(sorted(edge)) for edge in edges if edge[::-1] in edges and edge[0] != edge[1]}
    assert not {(one, other) for one, other in both if "" not in (one, other) and not other.startswith(f"{one}.")}


def folder(module: str) -> str:
    """The innermost folder that a module lies in, "" for the package's own: "rooms.scene" for tips_bench.rooms.scene.shell."""
    parts = module.split(".")[1:]
    return ".".join(parts if (PACKAGE / "/".join(parts)).is_dir() else parts[:-1])


def code_files() -> list[Path]:
    return [path for folder in (PACKAGE, ROOT / "tests", ROOT / "benchmarks", ROOT / "scripts") for path in sorted(folder.rglob("*.py"))]


def test_no_file_is_longer_than_a_reader_bears() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in code_files()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_every_module_and_public_class_says_what_it_is() -> None:
    silent = []
    for name, tree in sources().items():
        if ast.get_docstring(tree) is None:
            silent.append(name)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and ast.get_docstring(node) is None:
                silent.append(f"{name}.{node.name}")
    assert not silent


def third_parties(tree: ast.Module) -> set[str]:
    return {module.split(".")[0] for module in imports(tree)} - set(sys.stdlib_module_names) - {"tips_bench", "tests"}


# module -> its package; none of them need be installed
LOGGERS = {"tensorboard": ["tensorboard"], "wandb": ["wandb"], "mlflow": ["mlflow-skinny"], "trackio": ["trackio"]}


@pytest.mark.slow
def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]

    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[<>=\[ ]", line)[0].lower().replace("_", "-") for line in lines}

    # cv2 comes with mmcv-lite and mmengine, which name the package it is in; ray and some others are installed for nightly tests only
    owners = {
        **packages_distributions(),
        "cv2": ["mmcv-lite"],
        "mmcv": ["mmcv-lite"],
        **{name: [name] for name in ("ray", "moto", "s3fs", "boto3", "litdata", "mkdocs")},
        "upath": ["universal-pathlib"],
        **LOGGERS,
    }
    declared = names(project["dependencies"]) | {
        name for extra in ("encoders", "slurm", "ray", "remote", "corpus", "loggers") for name in names(extras[extra])
    }

    def undeclared(trees: Iterable[ast.Module], declared: set[str]) -> set[str]:
        used = {module for tree in trees for module in third_parties(tree)} - {"users_own"}  # a test writes that one itself
        return {module for module in used if not {owner.lower().replace("_", "-") for owner in owners.get(module, [])} & declared}

    assert not undeclared(sources().values(), declared)
    rest = [path for path in code_files() if PACKAGE not in path.parents]
    tested = (
        declared | names(extras["test"]) | names(extras["nightly"]) | {"pydantic-core", "tokenizers", "mkdocs"}
    )  # of pydantic, transformers and mkdocs-material
    ours = {"benchmarks", "scripts"}  # folders beside the package, which only the rest may import
    assert not undeclared((ast.parse(path.read_text(encoding="utf-8")) for path in rest), tested) - ours


# what each would hide or run; zip alone may say strict=False
FORBIDDEN = {"weights_only": False, "allow_pickle": True, "strict": False, "trust_remote_code": True}


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.keyword]]:
    """Every keyword argument of every call, with the name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield from ((called, keyword) for keyword in node.keywords)


@pytest.mark.parametrize("name", sorted(sources()))
def test_no_call_reads_pickles_runs_strangers_code_or_drops_keys(name: str) -> None:
    wrong = [
        f"{called}({keyword.arg}={FORBIDDEN[keyword.arg]})"
        for called, keyword in calls(sources()[name])
        if keyword.arg in FORBIDDEN
        and called != "zip"
        and isinstance(keyword.value, ast.Constant)
        and keyword.value.value is FORBIDDEN[keyword.arg]
    ]
    assert not wrong


@pytest.mark.parametrize("name", sorted(sources()))
def test_whoever_catches_everything_raises_it_again(name: str) -> None:
    for node in ast.walk(sources()[name]):
        if isinstance(node, ast.ExceptHandler):
            broad = node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
            assert not broad or any(isinstance(inner, ast.Raise) for inner in ast.walk(node)), f"{name}:{node.lineno}"


PLACE = re.compile(r"(?<![\w.])/(?:work|root|home)/\w|(?<![\w/.-])shared/(?:facts|golden|DESIGN|STYLE)|find-links|/opt/wheels")


def test_nothing_in_the_tree_names_the_place_it_was_made_in() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    found = []
    for name in listed:
        path = ROOT / name
        if path.suffix in (".py", ".md", ".yaml", ".toml", ".sh", "") and path.is_file() and path != Path(__file__):
            found += [f"{name}: {m.group(0)}" for m in PLACE.finditer(path.read_text(encoding="utf-8"))]
    assert not found
