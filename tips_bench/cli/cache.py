"""tips-bench cache: what --cache keeps, how much of it, and whether it is whole."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from tips_bench.cli.output import print_json, print_line, print_table, print_text

EXAMPLES = """List, prune and verify the features that `run --cache` keeps.

\b
Examples:
  tips-bench cache list
  tips-bench cache prune --max-gb 50
  tips-bench cache verify
"""
app = typer.Typer(help=EXAMPLES, no_args_is_help=True)


@app.command("list")
def list_features(as_json: Annotated[bool, typer.Option("--json", help="Print sizes in bytes, as JSON.")] = False) -> None:
    """List the encoders whose features are kept, with their size and their last use, and the limit that $TIPS_BENCH_CACHE_LIMIT sets.

    \b
    Examples:
      tips-bench cache list
      tips-bench cache list --json
    """
    from tips_bench.catalog import cache_root
    from tips_bench.evaluation.keeping import limit_bytes
    from tips_bench.features.upkeep import parts

    sizes: dict[str, tuple[int, float]] = {}
    for part in parts(cache_root() / "features"):
        size, used = sizes.get(part.encoder, (0, 0.0))
        sizes[part.encoder] = size + part.size, max(used, part.used)
    rows = [[name, f"{size / 1e9:.2f}", _day(used)] for name, (size, used) in sorted(sizes.items())]
    if as_json:
        print_json([{"encoder": name, "bytes": size, "last_used": _day(used)} for name, (size, used) in sorted(sizes.items())])
        return
    if rows:
        print_table(["encoder", "GB", "last used"], rows)
    used, limit = sum(size for size, _ in sizes.values()), limit_bytes(True, None)
    of = "" if limit is None else f" of at most {limit / 1e9:.2f} GB ({used / limit:.0%})"
    print_text(f"{used / 1e9:.2f} GB of features in {cache_root() / 'features'}{of}")


@app.command("prune")
def prune_features(
    max_gb: Annotated[float, typer.Option("--max-gb", min=0, help="Gigabytes that may stay. 0: delete all.")],
) -> None:
    """Delete features, those that were not used for longest first, until no more than --max-gb are left.

    \b
    Example:
      tips-bench cache prune --max-gb 50
    """
    from tips_bench.catalog import cache_root
    from tips_bench.features.upkeep import prune

    gone, left = prune(cache_root() / "features", max_gb * 1e9)
    print_line(f"{sum(part.size for part in gone) / 1e9:.2f} GB deleted, {left / 1e9:.2f} GB left")


@app.command("verify")
def verify_features() -> None:
    """Read all kept features and compare them with their checksums. The exit status is 1 if some are broken; runs make those anew.

    \b
    Example:
      tips-bench cache verify
    """
    from tips_bench.catalog import cache_root
    from tips_bench.features.upkeep import parts, verify
    from tips_bench.progress import bar

    present = parts(cache_root() / "features")
    whole = broken = 0
    with bar("verifying", len(present), "parts") as advance:
        for part in present:
            good, bad = verify(part)
            whole, broken = whole + good, broken + bad
            advance()
    print_line(f"{whole} arrays are whole, {broken} are broken")
    if broken:
        raise typer.Exit(1)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
