"""How docs/ becomes a website (make docs-site): what MkDocs calls while it reads mkdocs.yml.

The pages are written for the repository. On the site README.md is the front page, other files from outside docs/ are pages, too, links to
anything else lead to the repository, and the page of the Python names is made from their docstrings.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# file of the repository -> page of the site, where that is not the file below docs/
PAGES = {"README.md": "index.md", "docs/index.md": "commands.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changes.md"}
API = "api.md"
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages from outside docs/ and that of the Python names."""
    from mkdocs.structure.files import File

    files.remove(files.get_file_from_path("index.md"))
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=relinked(text, source, config["repo_url"])))
    files.append(File.generated(config, API, content=python_names()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The text of a page below docs/, with its links to the rest of the repository changed."""
    source = page.file.src_uri
    return markdown if source in {*PAGES.values(), API} else relinked(markdown, f"docs/{source}", config["repo_url"])


def on_page_content(html: str, **_: Any) -> str:
    """The HTML of a page, in which the empty corner of a table is no header: there is nothing to read out."""
    return re.sub(r"<th((?: style=\"[^\"]*\")?)></th>", r"<td\1></td>", html)


def relinked(text: str, source: str, repository: str) -> str:
    """A text with its links as the site needs them. source: its file in the repository; links that name none of its files stay."""
    page = site_page(source) or ""

    def changed(found: re.Match[str]) -> str:
        opening, target, anchor, closing = found.groups(default="")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if file.startswith("..") or "://" in target or not (ROOT / file).exists():
            return found[0]
        own = site_page(file)
        kind = "tree" if (ROOT / file).is_dir() else "blob"
        place = posixpath.relpath(own, posixpath.dirname(page) or ".") if own else f"{repository}/{kind}/main/{file}"
        return f"{opening}{place}{anchor}{closing}"

    return LINK.sub(changed, text)


def site_page(file: str) -> str | None:
    """Where a file of the repository is on the site; None: nowhere."""
    below = file.removeprefix("docs/")
    return PAGES.get(file) or (below if below != file and (ROOT / file).is_file() else None)


def python_names() -> str:
    """The page of the public names, for mkdocstrings to fill in."""
    import tips_bench

    head = "# The Python interface\n\n::: tips_bench\n    options: {show_root_heading: false, show_root_toc_entry: false, members: false}\n"
    names = [name for name in tips_bench.__all__ if not name.startswith("__")]
    return "\n".join([head, *(f"::: tips_bench.{name}\n" for name in sorted(names, key=str.lower))])
