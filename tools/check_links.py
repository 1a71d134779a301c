"""Checks that every relative link in the project's Markdown files leads to a file and a heading that exist.

Links to other sites are not followed: the check needs no network and says the same thing every time.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from markdown_it.token import Token

_ELSEWHERE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//")
_HTML_TARGET = re.compile(r"""<[a-z][^>]*\b(?:id|name)=["']([^"']+)["']""")
_HTML_LINK = re.compile(r"""<[a-z][^>]*\b(?:href|src)=["']([^"']+)["']""")


def markdown_files(root: Path) -> list[Path]:
    """All Markdown files of the tree, hidden folders left out."""
    found = (path for path in root.rglob("*.md") if not any(p.startswith(".") for p in path.relative_to(root).parts))
    return sorted(found)


def broken_links(root: Path) -> Iterator[str]:
    """One sentence for each link that leads nowhere, as `FILE:LINE: what is wrong`."""
    for path in markdown_files(root):
        for line, link in links(path):
            fault = _fault(root, path, link)
            if fault is not None:
                yield f"{path.relative_to(root)}:{line}: {fault}"


def links(path: Path) -> Iterator[tuple[int, str]]:
    """Line and destination of each link and picture of a file; what stands in code is no link."""
    for line, token in _tokens(path):
        if token.type == "link_open":
            yield line, str(token.attrs["href"])
        elif token.type == "image":
            yield line, str(token.attrs["src"])
        elif token.type in ("html_block", "html_inline"):
            for found in _HTML_LINK.finditer(token.content):
                yield line, found[1]


def anchors(path: Path) -> set[str]:
    """What a link may name behind `#`: headings as forges slug them, and explicit HTML ids."""
    found: set[str] = set()
    heading = False
    for _line, token in _tokens(path):
        if token.type in ("heading_open", "heading_close"):
            heading = token.type == "heading_open"
        elif token.type == "inline" and heading:
            found.add(_unused(_slug(token), found))
        elif token.type in ("html_block", "html_inline"):
            found.update(match[1] for match in _HTML_TARGET.finditer(token.content))
    return found


def _fault(root: Path, source: Path, link: str) -> str | None:
    if _ELSEWHERE.match(link):
        return None
    place, _, anchor = unquote(link).partition("#")
    if place.startswith("/"):
        return f"`{link}` is absolute: write it relative to this file"
    target = (source.parent / place).resolve() if place else source
    if not target.is_relative_to(root):
        return f"`{link}` leads out of the project"
    if not target.exists():
        return f"`{link}` leads to no file"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return f"`{link}`: {target.relative_to(root)} has no heading `#{anchor}`"
    return None


def _tokens(path: Path) -> Iterator[tuple[int, Token]]:
    line = 1
    for block in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        line = block.map[0] + 1 if block.map else line
        yield line, block
        for child in block.children or ():
            yield line, child


def _slug(heading: Token) -> str:
    text = "".join(child.content for child in heading.children or () if child.type in ("text", "code_inline"))
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def _unused(slug: str, taken: set[str]) -> str:
    number, unused = 0, slug
    while unused in taken:
        number += 1
        unused = f"{slug}-{number}"
    return unused


def main() -> int:
    """Print every broken link of the project; 1 where there is one."""
    root = Path(__file__).resolve().parent.parent
    faults = list(broken_links(root))
    print("\n".join(faults) if faults else f"links of {len(markdown_files(root))} Markdown files lead somewhere")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
