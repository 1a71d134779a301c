"""HTML is built so that only elements are markup."""

from __future__ import annotations

from rollbackd.web.html import element, join


def test_text_and_attributes_are_escaped_and_elements_are_not() -> None:
    inner = element("b", '<i> & "co"\'')
    assert inner == "<b>&lt;i&gt; &amp; &quot;co&quot;&#x27;</b>"
    assert element("p", inner, "<", class_='a"b') == f'<p class="a&quot;b">{inner}&lt;</p>'


def test_joining_texts_gives_no_markup() -> None:
    assert join(["<", element("br-not-void"), None]) == "&lt;<br-not-void></br-not-void>"
    assert element("p", element("b", "x") + "<script>") == "<p>&lt;b&gt;x&lt;/b&gt;&lt;script&gt;</p>"


def test_what_is_none_is_left_out() -> None:
    assert element("time", None, "now", datetime=None) == "<time>now</time>"


def test_elements_without_content_have_no_end() -> None:
    assert element("meta", http_equiv="refresh", content="10") == '<meta http-equiv="refresh" content="10">'
