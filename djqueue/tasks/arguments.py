"""Whether a call's arguments fit the task's signature, asked before anything is sent.

Made once per task. The common shapes are decided by counting; everything else, and the words of the error,
come from binding the signature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import Parameter, Signature
from typing import Any

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


class ArgumentCheck:
    """The check for one task."""

    __slots__ = ("_by_position_only", "_fewest", "_most", "_name", "signature")

    def __init__(self, name: str, signature: Signature) -> None:
        self._name = name
        self.signature = signature
        parameters = signature.parameters.values()
        positional = [one for one in parameters if one.kind in _POSITIONAL]
        needs_keywords = any(
            one.kind is Parameter.KEYWORD_ONLY and one.default is Parameter.empty for one in parameters
        )
        self._by_position_only = [
            one.name
            for one in positional
            if one.kind is Parameter.POSITIONAL_ONLY and one.default is Parameter.empty
        ]
        takes_any = any(one.kind is Parameter.VAR_POSITIONAL for one in parameters)
        self._fewest: float = sum(one.default is Parameter.empty for one in positional)
        self._most: float = float("inf") if takes_any else len(positional)
        if needs_keywords:
            self._fewest = float("inf")

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise TypeError if the function could not be called like this."""
        if not kwargs and self._fewest <= len(args) <= self._most:
            return
        try:
            self.signature.bind(*args, **kwargs)
            # Python 3.13.0 lets ** take what has to be given by position.
            for missing in self._by_position_only[len(args) :]:
                raise TypeError(f"missing a required argument: {missing!r}")
        except TypeError as exc:
            raise TypeError(f"{self._name}{self.signature} cannot be called like this: {exc}.") from None

    def takes_more_than_one(self) -> bool:
        """Return whether more than one positional argument may be given."""
        return self._most > 1
