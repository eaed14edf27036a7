"""Pages from the templates of this package: whatever is filled into one is escaped, unless it is markup of ours."""

import re
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+(?=@)")


def filled(template: str, **values: object) -> str:
    """A template of `templates/` with its values: the same text for the same values."""
    return _environment().get_template(template).render(values).rstrip() + "\n"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("sweep"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _shown(value: object) -> object:
    # Not of markup, which a substitution would turn into text.
    return without_credentials(value) if type(value) is str else value


def without_credentials(text: str) -> str:
    """The text with the user and password of each address in it left out: a page is passed on."""
    return _CREDENTIALS.sub("***", text)
