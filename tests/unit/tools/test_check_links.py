"""The check of the docs' links."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.check_links import anchors, broken_links


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/other.md").write_text("# One `two` three!\n\n## Twice\n\n## Twice\n\n<a id='here'></a>\n")
    return tmp_path / "README.md"


@pytest.mark.parametrize(
    "link",
    [
        "docs/other.md",
        "docs/other.md#one-two-three",
        "docs/other.md#twice-1",
        "docs/other.md#here",
        "docs",
        "#title",
        "https://example.org/nothing",
        "mailto:someone@example.org",
    ],
)
def test_a_link_that_leads_somewhere_is_let_through(page: Path, link: str) -> None:
    page.write_text(f"# Title\n\n[text]({link})\n")
    assert list(broken_links(page.parent)) == []


@pytest.mark.parametrize(
    ("link", "fault"),
    [
        ("docs/missing.md", "leads to no file"),
        ("docs/other.md#gone", "has no heading `#gone`"),
        ("#gone", "has no heading `#gone`"),
        ("/docs/other.md", "is absolute"),
        ("../outside.md", "leads out of the project"),
    ],
)
def test_a_link_that_leads_nowhere_is_named_with_its_line(page: Path, link: str, fault: str) -> None:
    page.write_text(f"# Title\n\n[text]({link})\n")
    (found,) = broken_links(page.parent)
    assert found.startswith("README.md:3: ")
    assert fault in found


def test_pictures_html_and_reference_links_are_links(page: Path) -> None:
    page.write_text('![a](a.png)\n\n<img src="b.png">\n\n[c][ref]\n\n[ref]: c.md\n')
    assert len(list(broken_links(page.parent))) == 3


def test_what_stands_in_code_is_no_link(page: Path) -> None:
    page.write_text("`[a](b.md)`\n\n```\n[c](d.md)\n# no heading\n```\n")
    assert list(broken_links(page.parent)) == []
    assert anchors(page) == set()


def test_hidden_folders_are_not_ours(page: Path) -> None:
    (page.parent / ".venv").mkdir()
    (page.parent / ".venv/README.md").write_text("[a](b.md)")
    assert list(broken_links(page.parent)) == []
