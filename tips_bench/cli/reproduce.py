"""tips-bench reproduce: the number of a record once more, and whether it agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tips_bench.cli.names import number_or_auto
from tips_bench.cli.options import DataRoot, Device, local_path
from tips_bench.cli.output import print_json, print_line, print_table


def reproduce(
    record: Annotated[Path, typer.Argument(help="The record: a .json file that `tips-bench run` wrote.")],
    out: Annotated[Path, typer.Option(parser=local_path, metavar="FOLDER", help="Folder to write the new record to.")] = Path("reproduced"),
    weights: Annotated[str | None, typer.Option(help="The weight file, where the record names one.")] = None,
    device: Device = None,
    batch_size: Annotated[str | None, typer.Option(help="Images per batch. Default: as in the record.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Number of threads or processes that decode images.")] = None,
    data_root: DataRoot = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything at full precision, as JSON.")] = False,
) -> None:
    """Evaluate again what a record says, and say whether the numbers agree. Exit status 1 if they do not.

    The cards are those that the record holds. Equal: every metric to the last
    digit. Agrees: the paired difference is within the tolerance of `tips-bench
    check`. What of the machine, the packages, the data and the weights is not as
    it was is listed.

    \b
    Examples:
      tips-bench reproduce results/rooms-seg/tips-nano/convex-0123abcd.json
      tips-bench reproduce record.json --data-root /data --device cuda
    """
    from tips_bench.evaluation.again import again
    from tips_bench.results.record import load_record

    old = load_record(record)
    size = old.cost.batch_size if batch_size is None else number_or_auto(batch_size, "--batch-size", least=1)
    found = again(old, weights, device=device, batch_size=size, workers=workers, data_root=data_root, out=out)
    if as_json:
        print_json(_as_data(found))
    else:
        rows = [_row(name, one, found.new.metrics.get(name)) for name, one in old.metrics.items()]
        print_table(["metric", "record", "again", ""], rows)
        if found.differences:
            print()
            print_table(["not as it was", "record", "now"], [[*one] for one in found.differences])
        print()
        print_line(f"{found.verdict}: {found.sentence}")
        print_line(str(found.new.file))
    if not found.agrees:
        raise typer.Exit(1)


def _row(name: str, then: Any, now: Any) -> list[str]:
    unit = f"{name} {then.unit}".rstrip()
    if now is None:
        return [unit, f"{then.value:.6g}", "-", ""]
    return [unit, f"{then.value:.6g}", f"{now.value:.6g}", "equal" if then.model_dump()["value"] == now.model_dump()["value"] else ""]


def _as_data(found: Any) -> dict[str, Any]:
    metrics = {
        name: [then.model_dump()["value"], found.new.metrics[name].model_dump()["value"] if name in found.new.metrics else None]
        for name, then in found.old.metrics.items()
    }
    return {
        "verdict": found.verdict,
        "sentence": found.sentence,
        "metrics": metrics,
        "differences": [one._asdict() for one in found.differences],
        "record": str(found.new.file),
    }
