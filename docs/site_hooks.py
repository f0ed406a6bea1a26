"""Hooks for mkdocs: links that work in the checkout work in the site too.

Documents that lie outside docs/ (README.md, jobs/README.md ...) become pages, links between
pages are adapted, and a link to any other file of the checkout becomes its bare text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent

#: Documents of the checkout to pages of the site.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "jobs/README.md": "jobs.md",
    "container/README.md": "container.md",
    "benchmarks/README.md": "benchmarks.md",
}
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
_OPENING = re.compile(r"^```(\w+) .*$", re.MULTILINE)


def on_files(files: Files, *, config: Any) -> Files:
    """Add the documents that lie outside docs/, and a list of the decisions."""
    for document, page in PAGES.items():
        text = (ROOT / document).read_text("utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "decisions.md", content=list_decisions()))
    return files


def list_decisions() -> str:
    """A page with the titles of all decisions."""
    lines = [
        "# Decisions",
        "",
        "The reasons for what could have been done otherwise, one page each.",
        "",
    ]
    for path in sorted((ROOT / "docs" / "decisions").glob("0*.md")):
        title = path.read_text("utf-8").splitlines()[0].removeprefix("# ")
        lines.append(f"- [{title}](decisions/{path.name})")
    return "\n".join(lines)


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Adapt links, and remove from code blocks the words that only our tests read."""
    here = page.file.src_uri
    document = {page: document for document, page in PAGES.items()}.get(here, f"docs/{here}")

    def fit(link: re.Match[str]) -> str:
        picture, text, target, anchor = link[1], link[2], link[3], link[4] or ""
        if not target or "://" in target:
            return link[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(document), target))
        if not (ROOT / wanted).exists():
            return link[0]  # mkdocs reports it
        found = PAGES.get(wanted, wanted.removeprefix("docs/"))
        if wanted not in PAGES and not wanted.startswith("docs/"):
            return text  # in the checkout, but no page
        relative = posixpath.relpath(found, str(PurePosixPath(here).parent))
        return f"{picture}[{text}]({relative}{anchor})"

    return _OPENING.sub(r"```\1", _LINK.sub(fit, markdown))
