"""TLS on the way to RabbitMQ: what is asked of the connection, and what is said when that is refused.

BROKER_USE_SSL comes in, True or a mapping with the names of Python's `ssl` (each may begin with `ssl_`, as
those of Redis do); the options that py-amqp takes leave. The certificate must be signed by a known authority
and made out to the host of the URL, unless the options say otherwise.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from djqueue.exceptions import ImproperlyConfigured

#: what py-amqp understands
_KNOWN = (
    *("ca_certs", "certfile", "keyfile", "cert_reqs", "server_hostname", "ciphers", "ssl_version"),
    *("tls_minimum_version", "tls_maximum_version", "suppress_ragged_eofs", "context"),
)
_SHOW_ONE = (
    "If RabbitMQ wants to see a certificate, name it by BROKER_USE_SSL['certfile'] and "
    "BROKER_USE_SSL['keyfile']."
)
_MODES = {mode.name.removeprefix("CERT_").lower(): mode for mode in ssl.VerifyMode}


def options(given: Any, host: str) -> dict[str, Any]:
    """Return the options for one address.

    Raises:
        djqueue.exceptions.ImproperlyConfigured: one is not known, or its value is none.
    """
    found: dict[str, Any] = {}
    for name, value in (given if isinstance(given, Mapping) else {}).items():
        known = name if name in _KNOWN else str(name).removeprefix("ssl_")
        if known not in _KNOWN:
            near = get_close_matches(known, _KNOWN, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise ImproperlyConfigured(f"BROKER_USE_SSL[{name!r}] is not an option of TLS.{meant}")
        found[known] = value
    if found.get("cert_reqs") is not None:
        found["cert_reqs"] = _mode(found["cert_reqs"])
    # py-amqp refuses to look at the name of a certificate that is not looked at.
    if found.get("server_hostname") is None and found.get("cert_reqs") != ssl.CERT_NONE:
        found["server_hostname"] = host
    return found


def of_all(addresses: Sequence[Any]) -> Any:
    """Return the options that hold for each of the addresses: kombu takes one set for all of them."""
    first, *others = addresses
    if first and any(one != first for one in others):
        return {name: value for name, value in first.items() if name != "server_hostname"}
    return first


def refusal(problem: Exception) -> str | None:
    """Return what is to be said of a problem if TLS is what is wrong."""
    if isinstance(problem, ssl.SSLCertVerificationError):
        return (
            f"This process does not trust RabbitMQ's certificate: {problem.verify_message}. "
            "BROKER_USE_SSL['ca_certs'] names the file with the authorities to be trusted, without it they "
            "are those of the system; the certificate must be made out to the host of the URL."
        )
    if isinstance(problem, ssl.SSLError):
        return f"RabbitMQ and this process do not agree on how to encrypt: {problem}. {_SHOW_ONE}"
    return None


def advice(problem: BaseException | None, used: Any) -> str | None:
    """Return what may help whom RabbitMQ hung up on, which it may do before what it said of TLS is read."""
    is_anonymous = bool(used) and not used.get("certfile")
    return _SHOW_ONE if is_anonymous and isinstance(problem, ConnectionResetError | BrokenPipeError) else None


def _mode(value: Any) -> ssl.VerifyMode:
    if isinstance(value, str) and (mode := _MODES.get(value.lower().removeprefix("cert_"))) is not None:
        return mode
    try:
        return ssl.VerifyMode(value)
    except ValueError as error:
        raise ImproperlyConfigured(
            f"BROKER_USE_SSL['cert_reqs'] is {value!r}; it is one of {', '.join(_MODES)}."
        ) from error
