"""tips-bench: dense evaluation of frozen vision encoders.

    import tips_bench

    record = tips_bench.run("rooms-seg", "tips-tiny-random", protocol="convex")
    encoder = tips_bench.load_encoder("tips-b14")

The names below are imported when they are first used, so `import tips_bench` loads neither torch nor anything else.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tips_bench.encoders import load_encoder
    from tips_bench.evaluation.run import evaluate as run
    from tips_bench.results.comparison import compare
    from tips_bench.results.record import load_record

__version__ = "0.1.0"
__all__ = ["__version__", "compare", "list_models", "list_tasks", "load_encoder", "load_record", "run"]

_LAZY = {
    "load_encoder": "tips_bench.encoders:load_encoder",
    "compare": "tips_bench.results.comparison:compare",
    "load_record": "tips_bench.results.record:load_record",
    "run": "tips_bench.evaluation.run:evaluate",
}


def list_tasks() -> list[str]:
    """Names of all task cards, shipped and the user's own."""
    from tips_bench.catalog import card_files

    return list(card_files("task"))


def list_models() -> list[str]:
    """Names of all model cards, shipped and the user's own."""
    from tips_bench.catalog import card_files

    return list(card_files("model"))


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tips_bench' has no attribute {name!r}")
    module, _, attribute = _LAZY[name].partition(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
