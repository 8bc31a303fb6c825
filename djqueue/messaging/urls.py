"""Broker URLs as text: their scheme, and a form that may be shown.

Brokers and logs ask here. What comes after the scheme is for each transport to read.
"""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"(?P<before>://[^/?#]*?:)(?P<password>[^/?#]*)(?=@)")
_SECRET_OPTION = re.compile(
    r"(?P<before>[?&][^=&#]*(?:password|passwd|secret|token)[^=&#]*=)[^&#]*", re.IGNORECASE
)
MASK = "**"


def scheme(url: str) -> str:
    """Return the part before `://`; a name without it is its own scheme (`memory`)."""
    return url.partition("://")[0]


def masked(url: str) -> str:
    """Return the URL with every password in it replaced."""
    without_password = _PASSWORD.sub(rf"\g<before>{MASK}", url)
    return _SECRET_OPTION.sub(rf"\g<before>{MASK}", without_password)
