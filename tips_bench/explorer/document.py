"""The explorer's page: one HTML file with its style and scripts inside, with or without what a server would answer.

Nothing is loaded from elsewhere, and the page's own policy forbids it: only the style and the script of these files run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

SCRIPTS = ("arrays.js", "drawing.js", "asking.js", "explorer.js")


def page(saved: dict[str, Any] | None = None) -> str:
    """The page as HTML. saved: {"answers": question -> answer, "settings": ...} of a page that needs no server; None = the live page."""
    style, script = _read("style.css"), '"use strict";\n' + "\n".join(map(_read, SCRIPTS))
    text = _read("page.html")
    # "<" as an escape: no text can end the element that it stands in
    data = json.dumps(saved, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    for name, value in {"policy": policy(saved is None), "style": style, "script": script, "saved": data}.items():
        text = text.replace(f"{{{{ {name} }}}}", value, 1)
    return text


def policy(live: bool) -> str:
    """The page's Content-Security-Policy. live: whether it may ask the server that it came from."""
    style, script = _hash(_read("style.css")), _hash('"use strict";\n' + "\n".join(map(_read, SCRIPTS)))
    asks = "connect-src 'self'; " if live else ""
    return f"default-src 'none'; {asks}img-src data: blob:; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"


def _read(name: str) -> str:
    return (files("tips_bench.explorer") / "page" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}"
