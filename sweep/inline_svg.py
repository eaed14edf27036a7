"""Matplotlib's SVG made fit to stand within a page: in the page's colours, and with words for who cannot see it."""

import re
from collections.abc import Mapping

from markupsafe import Markup, escape

SCALE = 4 / 3
"""Pixels of CSS in a point."""
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_FURNITURE = re.compile(r"<(metadata|style)\b.*?</\1>", re.DOTALL)
_ROOT = re.compile(r'<svg\b[^>]*\bviewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>')
_STYLE = re.compile(r'style="[^"]*"')
_HEX = re.compile(r"#[0-9a-fA-F]{6}\b")


def inline(svg: str, name: str, title: str, colours: Mapping[str, str]) -> Markup:
    """An SVG image as an element of a page. Its texts are paths, and so need no fonts.

    name: before its ids, so that they stay apart from other images'. title: what it shows, in words; one without any
    is decoration. colours: a hex colour, in lower case, to what CSS is to take for it; others stay as they are.
    """
    body = svg[svg.index("<svg") :]
    # Comments hold the texts of the figure, which are the user's.
    body = _FURNITURE.sub("", _COMMENT.sub("", body)).replace("<defs>\n  \n </defs>\n", "")
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r'\bxlink:href="#', f'href="#{name}-', body).replace("url(#", f"url(#{name}-")
    body = _STYLE.sub(lambda found: _HEX.sub(lambda hex: colours.get(hex[0].lower(), hex[0]), found[0]), body)
    return Markup(_ROOT.sub(lambda found: _root(float(found[1]), float(found[2]), title), body, count=1))


def _root(width: float, height: float, title: str) -> str:
    role = f'role="img" aria-label="{escape(title)}"' if title else 'aria-hidden="true"'
    size = f'width="{width * SCALE:.0f}" height="{height * SCALE:.0f}"'
    # Black, which Matplotlib does not name, is the colour of the text around it.
    return f'<svg {role} viewBox="0 0 {width:g} {height:g}" {size} fill="currentColor">'
