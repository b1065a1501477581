"""commands/report/markup.py: texts for HTML and SVG."""

from xml.etree.ElementTree import fromstring

from hypothesis import example, given
from hypothesis import strategies as st

from popad.commands.report.markup import element, text
from popad.commands.report.shown import plain


@given(st.text())
@example("<script>alert(1)</script>")
@example("\" onload='x' \n]]>&amp;\udcff\u202e")
def test_any_text_stays_one(content: str) -> None:
    markup = element("p", text(content), title=content, class_="a")
    read = fromstring(markup)  # noqa: S314
    assert (read.tag, read.text or "", len(read)) == ("p", plain(content), 0)
    assert read.attrib == {"class": "a"} | ({"title": plain(content)} if content else {})


def test_names_of_attributes() -> None:
    assert element("b", "x", aria_label="y", class_="", x=1.5) == '<b aria-label="y" x="1.5">x</b>'
