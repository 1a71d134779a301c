"""The pictures of the docs are what the code says."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from tools.pictures import DRAWN, PICTURES

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", DRAWN)
def test_the_picture_is_up_to_date(name: str) -> None:
    """`python -m tools.pictures`, in the project's environment, draws it anew."""
    kept = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    assert kept == DRAWN[name]().svg()


def test_no_picture_is_left_over() -> None:
    assert {path.stem for path in PICTURES.iterdir()} == set(DRAWN)


@pytest.mark.parametrize("name", DRAWN)
def test_the_picture_is_small_and_tells_in_words_what_it_shows(name: str) -> None:
    path = PICTURES / f"{name}.svg"
    assert path.stat().st_size < 30_000
    root = ET.parse(path).getroot()
    assert root.findtext(f"{SVG}title")
    assert root.findtext(f"{SVG}desc")
