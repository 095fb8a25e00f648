"""A report of one run: one HTML file that needs nothing beside it and sends for nothing."""

from __future__ import annotations

import base64
from pathlib import Path

from markupsafe import Markup

from tips_bench.errors import UserError
from tips_bench.files import write_text
from tips_bench.leaderboard.html import Drawn, environment, picture_files, run_context, stylesheet
from tips_bench.leaderboard.ranking import read
from tips_bench.results.untrusted_input import check_picture


def write_report(path: Path, to: Path) -> None:
    """Write the report of the record at `path`: numbers, intervals, classes, pictures, cost and how to make it again.

    Errors: no record, counts that give other numbers, a picture that is missing or none.
    """
    if path.is_dir():
        raise UserError("a folder", where=path, fix="Name one record.")
    entries, _ = read(path)
    entry = entries[0]
    pictures = []
    for file, sample in picture_files(entry):
        check_picture(file)
        pictures.append(Drawn(f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}", sample))
    context = run_context(entry, pictures, None) | {"papers": [], "style": Markup(stylesheet())}
    write_text(to, environment().get_template("report.html.j2").render(context))
