"""A site shown to the browsers of this machine, and to nothing else: only what its manifest lists is sent, as it was built."""

from __future__ import annotations

import mimetypes
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tips_bench.errors import UserError
from tips_bench.leaderboard.site_files import hash_at, intact, read_manifest
from tips_bench.loopback import LocalHandler, LocalServer

TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".html": "text/html; charset=utf-8"}


class SiteServer(LocalServer):
    """Serves the folder of a site. Errors: no site there; a port that is taken."""

    def __init__(self, site: Path, port: int) -> None:
        intact(site)
        super().__init__(partial(_Handler, site), port)


class _Handler(LocalHandler):
    policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )

    def __init__(self, site: Path, *arguments: Any) -> None:
        self.site = site
        super().__init__(*arguments)

    def do_GET(self) -> None:
        content = self._content()
        if content is not None:
            self.wfile.write(content)

    def do_HEAD(self) -> None:
        self._content()

    def _content(self) -> bytes | None:
        """Sends the head of the answer; what is to follow, None after an error."""
        if not self.is_called_by_own_name():
            return None
        name = unquote(self.path.partition("?")[0]).lstrip("/") or "index.html"
        content = _read(self.site, name)
        if content is None:
            self.send_error(HTTPStatus.NOT_FOUND, "the site has no such page")
            return None
        suffix = Path(name).suffix
        self.send_head(content, TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream")
        return content


def _read(site: Path, name: str) -> bytes | None:
    """A file of the site as it was built; None for any other, for one that was changed or is a link, and while a site is replaced."""
    try:
        manifest = read_manifest(site)
        if manifest is None or name not in manifest.files or hash_at(site, name) != manifest.files[name]:
            return None
        return (site / name).read_bytes()
    except (OSError, UserError):
        return None
