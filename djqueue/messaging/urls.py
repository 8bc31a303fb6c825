"""Broker URLs as text: their scheme, and a form that may be shown.

Brokers and logs ask here. What comes after the scheme is for each transport to read.
"""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"(?P<before>://[^/?#]*?:)(?P<password>[^/?#]*)(?=@)")
_SECRET_OPTION = re.compile(
    r"(?P<before>[?&][^=&#]*(?:password|passwd|secret|token)[^=&#]*=)[^&#]*", re.IGNORECASE
)
#: in connection strings of Azure's, and in the addresses that their signatures become part of
_AZURE = re.compile(
    r"(?P<before>\b(?:AccountKey|SharedAccessSignature)=(?=[^;\s])|[?&]sig=)(?:(?<=[?&]sig=)[^;&#\s]*|[^;\s]*)",
    re.IGNORECASE,
)
MASK = "**"


def scheme(url: str) -> str:
    """Return the part before `://`; a name without it is its own scheme (`memory`)."""
    return url.partition("://")[0]


def masked(url: str) -> str:
    """Return the URL with every password in it replaced."""
    without_password = _PASSWORD.sub(rf"\g<before>{MASK}", url)
    without_options = _SECRET_OPTION.sub(rf"\g<before>{MASK}", without_password)
    return _AZURE.sub(rf"\g<before>{MASK}", without_options)
