"""Texts for HTML and SVG. Whatever a text is, it stays one: it makes no element, no attribute, no other direction."""

import html

from popad.commands.report.shown import plain


def text(content: str) -> str:
    """A text, in an element or in an attribute with quotes."""
    return html.escape(plain(content))


def element(name: str, content: str, **attributes: str | float) -> str:
    """An element around what is markup already. `class_` is class, `a_b` is a-b."""
    given = "".join(
        f' {key.strip("_").replace("_", "-")}="{text(str(value))}"' for key, value in attributes.items() if value != ""
    )
    return f"<{name}{given}>{content}</{name}>"
