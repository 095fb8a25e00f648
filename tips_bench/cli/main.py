"""The entry point; what it imports for all the verbs is imported once Ctrl-C and the streams are cared for."""

from __future__ import annotations

from tips_bench.cli.interrupt import catch_early


def main() -> None:
    """The entry point of `tips-bench` and of `python -m tips_bench`."""
    catch_early()
    from tips_bench.cli.app import app
    from tips_bench.cli.streams import prepare

    prepare()
    app(prog_name="tips-bench")
