"""tips-bench doctor: is this machine ready to run tips-bench, and what is installed. What is at fault, then a line for each section.

    tips-bench doctor --all

Exit status 1 if something that tips-bench needs is missing or broken. A missing data set is not an error.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import Annotated

import typer

from tips_bench import __version__
from tips_bench.cli.output import print_json, print_table
from tips_bench.errors import UserError
from tips_bench.openmmlab import import_mmseg
from tips_bench.results.provenance import version_of
from tips_bench.wording import counted

# distribution -> module; those of pyproject.toml, and the extra `encoders`
NEEDED = {
    "torch": "torch",
    "torchvision": "torchvision",
    "mmengine": "mmengine",
    "mmcv-lite": "mmcv",
    "open3d": "open3d",
    "pycocotools": "pycocotools.mask",
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "numpy": "numpy",
    "pandas": "pandas",
    "pillow": "PIL.Image",
    "matplotlib": "matplotlib",
    "h5py": "h5py",
    "threadpoolctl": "threadpoolctl",
    "safetensors": "safetensors",
    "huggingface_hub": "huggingface_hub",
    "filelock": "filelock",
    "simplejpeg": "simplejpeg",
    "sentencepiece": "sentencepiece",
    "webdataset": "webdataset",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
}
OPTIONAL = {"timm": "timm", "transformers": "transformers", "open_clip_torch": "open_clip", "protobuf": "google.protobuf"}
# library -> Debian package; the same as in scripts/system_libraries.sh
SYSTEM_LIBRARIES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libGL.so.1": "libgl1",
    "libEGL.so.1": "libegl1",
    "libX11.so.6": "libx11-6",
    "libgomp.so.1": "libgomp1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. fault: tips-bench does not work without it. absent: not there, but not needed either."""

    section: str
    name: str
    value: str
    fault: bool = False
    fix: str = ""
    absent: bool = False

    @property
    def mark(self) -> str:
        """What the first column of the report says."""
        return "FAULT" if self.fault else "-" if self.absent else "ok"


def packages() -> Iterator[Finding]:
    """The versions of what is installed, each imported to see that it can be."""
    yield Finding("versions", "tips-bench", __version__)
    yield Finding("versions", "python", f"{platform.python_version()} on {platform.platform()}")
    for distribution, module in {**NEEDED, **OPTIONAL}.items():
        needed = distribution in NEEDED
        try:
            import_module(module)
            yield Finding("versions", distribution, version_of(distribution))
        except metadata.PackageNotFoundError:
            yield Finding("versions", distribution, "imported, but not installed under this name (mmcv in place of mmcv-lite?)")
        except ModuleNotFoundError as error:
            fix = "pip install -e . in the clone of tips-bench" if needed else f"pip install {distribution}"
            value = f"there is no module {error.name}{'' if needed else ' (optional)'}"
            yield Finding("versions", distribution, value, fault=needed, fix=fix, absent=not needed)
        except (ImportError, OSError) as error:
            fix = f"pip install --force-reinstall {distribution}"
            yield Finding("versions", distribution, f"cannot be imported: {error}", fault=True, fix=fix)
    try:
        yield Finding("versions", "mmsegmentation", import_mmseg().__version__)
    except UserError as error:
        yield Finding("versions", "mmsegmentation", error.problem, fault=True, fix=error.fix or "pip install mmsegmentation")


def system_libraries() -> Iterator[Finding]:
    """The shared libraries that the wheels of Open3D and OpenCV load (Linux only)."""
    if not sys.platform.startswith("linux"):
        return
    for library, package in SYSTEM_LIBRARIES.items():
        try:
            ctypes.CDLL(library)
            yield Finding("system libraries", library, "found")
        except OSError:
            yield Finding("system libraries", library, "missing", fault=True, fix=f"apt-get install {package}")


def devices() -> Iterator[Finding]:
    """The devices that torch can use, and the number of CPU threads."""
    try:
        import torch
    except (ImportError, OSError):
        return  # packages() has reported it
    cores, threads = counted(os.cpu_count() or 1, "core"), counted(torch.get_num_threads(), "thread")
    yield Finding("devices", "cpu", f"{cores}, {threads}, {torch.backends.cpu.get_cpu_capability()}")
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        yield Finding("devices", f"cuda:{index}", f"{properties.name}, {properties.total_memory / 1e9:.0f} GB")


def caches() -> Iterator[Finding]:
    """The cache folder: whether it is writable, how much it uses, how much is free."""
    from tips_bench.catalog import cache_root

    root = cache_root()
    existing = next(folder for folder in [root, *root.absolute().parents] if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        yield Finding("caches", "$TIPS_BENCH_CACHE", f"{root} cannot be written", fault=True, fix="Set the variable to another folder")
        return
    held = sum(file.stat().st_size for file in root.rglob("*") if file.is_file())
    yield Finding("caches", "$TIPS_BENCH_CACHE", f"{root}: {held / 1e9:.2f} GB used, {shutil.disk_usage(existing).free / 1e9:.0f} GB free")


def cards() -> Iterator[Finding]:
    """Whether every card can be read."""
    from tips_bench.cards import list_cards

    for kind in ("task", "protocol", "model", "prompt"):
        found, faults = list_cards(kind)
        yield Finding("cards", f"{kind}s", str(len(found)))
        for error in faults:
            yield Finding("cards", f"{kind}s", error.problem, fault=True, fix=f"Fix {error.where}")


def data_sets() -> Iterator[Finding]:
    """Which tasks have their data on this machine."""
    from tips_bench.cards import load_card
    from tips_bench.catalog import card_files, data_root, generated_root

    for name in card_files("task"):
        try:
            data = load_card("task", name).data
        except UserError:
            continue  # cards() has reported it
        generated = data.generator is not None
        yield _data_set(name, (generated_root() if generated else data_root()) / data.root, generated)


def _data_set(task: str, root: Path, generated: bool) -> Finding:
    if root.is_dir():
        return Finding("data sets", task, f"{root} is there; to check the files: tips-bench data check {task}")
    value = "generated when first used" if generated else f"{root} is not there; how to get it: tips-bench show {task}"
    return Finding("data sets", task, value, absent=not generated)


def in_short(section: str, findings: Sequence[Finding]) -> str:
    """What a section found, on one line. findings: of this section, no faults."""
    found = {finding.name: finding.value for finding in findings if not finding.absent}
    absent = [finding.name for finding in findings if finding.absent]
    if section == "versions":
        named = [f"{name} {found.pop(name)}" for name in ("tips-bench", "python", "torch") if name in found]
        without = f", without {', '.join(absent)} (optional)" if absent else ""
        return f"{', '.join(named)}, and {counted(len(found), 'other package')}{without}"
    if section == "system libraries":
        return f"{len(found)} found"
    if section == "cards":
        return ", ".join(f"{number} {kind}" for kind, number in found.items())
    if section == "data sets":
        return f"{len(found)} are here or generated when first used, {len(absent)} are not: tips-bench doctor --all lists them"
    return "; ".join(found.values())


def print_in_short(findings: Sequence[Finding]) -> None:
    """The faults, then a line for each section that found anything else."""
    rows = [[f.mark, f.section, f"{f.name}: {f.value}. {f.fix}"] for f in findings if f.fault]
    for section in dict.fromkeys(finding.section for finding in findings):
        others = [finding for finding in findings if finding.section == section and not finding.fault]
        if others:
            rows.append(["ok", section, in_short(section, others)])
    print_table(["", "", "found"], rows)


def doctor(
    everything: Annotated[bool, typer.Option("--all", help="Print each package, library, card and data set on a line of its own.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as JSON.")] = False,
) -> None:
    """Check that this machine can run tips-bench: packages, system libraries, GPUs, caches, cards and data sets.

    Exit status 1 if something that tips-bench needs is missing or broken.

    \b
    Examples:
      tips-bench doctor
      tips-bench doctor --all
      TIPS_BENCH_DATA=/data tips-bench doctor --json
    """
    findings = [finding for part in (packages, system_libraries, devices, caches, cards, data_sets) for finding in part()]
    faults = [finding for finding in findings if finding.fault]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    elif everything:
        rows = [[f.mark, f.section, f.name, f"{f.value}. {f.fix}" if f.fix else f.value] for f in findings]
        print_table(["", "", "name", "value"], rows)
    else:
        print_in_short(findings)
    if not as_json:
        print(counted(len(faults), "fault"))
    if faults:
        raise typer.Exit(1)
