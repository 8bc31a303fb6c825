"""The settings: what the user wrote in DJQUEUE over the defaults of `core/defaults.py`.

Everyone reads `settings.TASK_ACKS_LATE`; nothing is read from Django before the first such access, and a
change of Django's settings is noticed. `problems()` feeds the system checks, `from_env()` makes the
dictionary from the environment, `as_markdown()` the settings page of the docs.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import environ
from django.conf import ENVIRONMENT_VARIABLE
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from djqueue.core.broker_defaults import Setting
from djqueue.core.defaults import DEFAULTS, GROUPS


class Problem(NamedTuple):
    """Something wrong in DJQUEUE: the end of a system check's id, what is wrong, and what to do."""

    id: str
    message: str
    hint: str


class Settings:
    """The settings in force. Values are checked and normalised when first read, then remembered.

    From the strongest to the weakest: `override`, `update`, the DJQUEUE dictionary, the defaults.
    """

    def __init__(self) -> None:
        self._changes: dict[str, Any] = {}
        #: grows whenever a setting may have changed; for those who keep what they made of them
        self.revision = 0

    def __getattr__(self, name: str) -> Any:
        # Reached only for what is not remembered in __dict__.
        setting = DEFAULTS.get(name)
        if setting is None:
            raise AttributeError(f"{name!r} is not a djqueue setting.{_did_you_mean(name)}")
        value = self._effective(setting)
        if django_settings.configured:  # before that, the answer may still change
            self.__dict__[name] = value
        return value

    def update(self, changes: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Change settings in this process, from now on; names may be in lower case.

        Raises:
            ImproperlyConfigured: a name or a value is wrong; then nothing is changed.
        """
        given = {name.upper(): value for name, value in {**(changes or {}), **more}.items()}
        for name, value in given.items():
            _checked(_known(name), value)
        self._changes.update(given)
        self._forget()

    @contextmanager
    def override(self, **changes: Any) -> Iterator[Settings]:
        """Change settings inside the block."""
        before = dict(self._changes)
        self.update(changes)
        try:
            yield self
        finally:
            self._changes = before
            self._forget()

    def reset(self) -> None:
        """Forget every change made in this process, and what was read."""
        self._changes.clear()
        self._forget()

    def reload(self) -> None:
        """Read Django's settings again at the next access."""
        self._forget()

    @property
    def may_be_kept(self) -> bool:
        """Whether `revision` tells of every change: not before Django's own settings are there."""
        return bool(django_settings.configured)

    def is_set(self, name: str) -> bool:
        """Return whether the user set this setting."""
        return name in self._changes or name in _written()

    def as_dict(self) -> dict[str, Any]:
        """Return every setting in force, by name."""
        return {name: getattr(self, name) for name in DEFAULTS}

    def timezone(self) -> tzinfo:
        """Return the time zone of schedules: TIMEZONE, or Django's."""
        zone = self.TIMEZONE or _from_django("TIME_ZONE")
        return UTC if zone in (None, "UTC") else ZoneInfo(zone)

    def problems(self) -> list[Problem]:
        """Return what is wrong in DJQUEUE: unknown names and values that do not fit."""
        try:
            written = _written()
        except ImproperlyConfigured as exc:
            return [Problem("not_a_dict", str(exc), "Write DJQUEUE = {'BROKER_URL': 'django://default'}.")]
        found = []
        for name, value in written.items():
            setting = DEFAULTS.get(name)
            if setting is None:
                message = f"DJQUEUE[{name!r}] is not a djqueue setting.{_did_you_mean(name)}"
                found.append(Problem("unknown_setting", message, "Correct the name, or remove the key."))
                continue
            try:
                _checked(setting, value)
            except ImproperlyConfigured as exc:
                found.append(Problem("bad_value", str(exc), setting.help))
        return found

    def _effective(self, setting: Setting) -> Any:
        if setting.name in self._changes:
            return _checked(setting, self._changes[setting.name])
        written = _written()
        return _checked(setting, written[setting.name]) if setting.name in written else setting.default

    def _forget(self) -> None:
        self.revision += 1
        for name in [name for name in self.__dict__ if name.isupper()]:
            self.__dict__.pop(name, None)


def from_env(prefix: str = "DJQUEUE_", env: environ.Env | None = None) -> dict[str, Any]:
    """Return the DJQUEUE dictionary that the environment describes, with values of the right types.

    Lists are separated by commas, dictionaries are JSON, `none` is None; `<NAME>_FILE` names a file that
    holds the value. A variable whose name is nearly that of a setting is kept as it is, for the system check
    to say what was meant. Give `env` to read from your own django-environ object.

    Raises:
        ImproperlyConfigured: a value cannot be read.
    """
    source = environ.FileAwareEnv() if env is None else env
    found: dict[str, Any] = {}
    for variable in sorted(name for name in source.ENVIRON if name.startswith(prefix)):
        name = variable.removeprefix(prefix)
        if name not in DEFAULTS and name.removesuffix("_FILE") in DEFAULTS:
            name = name.removesuffix("_FILE")
        if name in DEFAULTS:
            found[name] = _read(DEFAULTS[name], prefix + name, source)
        elif difflib.get_close_matches(name, DEFAULTS, n=1, cutoff=0.85):
            found[name] = source.ENVIRON[variable]
    return found


def as_markdown() -> str:
    """Return the settings page of the docs."""
    lines = ["# Settings", "", _PREAMBLE]
    for group, members in GROUPS.items():
        lines += ["", f"## {group}", "", "| Setting | Default | Takes | What it does |", "|---|---|---|---|"]
        for one in members:
            default = dict(one.default) if isinstance(one.default, Mapping) else one.default
            takes = f"{one.kind.words} ({one.unit})" if one.unit else one.kind.words
            lines.append(f"| `{one.name}` | `{default!r}` | {takes} | {one.help} |")
    return "\n".join(lines) + "\n"


def _written() -> Mapping[str, Any]:
    """Return the user's dictionary."""
    written = _from_django("DJQUEUE")
    if written is None:
        return {}
    if not isinstance(written, Mapping):
        raise ImproperlyConfigured(f"DJQUEUE must be a dict; it is {type(written).__name__}.")
    return written


def _from_django(name: str) -> Any:
    """Return one of Django's settings, or None: also where no Django settings exist at all."""
    try:
        return getattr(django_settings, name, None)
    except ImproperlyConfigured:
        if django_settings.configured or os.environ.get(ENVIRONMENT_VARIABLE):
            raise
        return None


def _read(setting: Setting, variable: str, source: environ.Env) -> Any:
    text = source.str(variable)
    try:
        return setting.kind.check(setting.kind.read(text))
    except ValueError as exc:
        raise ImproperlyConfigured(f"The environment variable {variable} {exc}; it is {text!r}.") from None


def _known(name: str) -> Setting:
    setting = DEFAULTS.get(name)
    if setting is None:
        raise ImproperlyConfigured(f"{name!r} is not a djqueue setting.{_did_you_mean(name)}")
    return setting


def _checked(setting: Setting, value: Any) -> Any:
    try:
        return setting.kind.check(value)
    except ValueError as exc:
        raise ImproperlyConfigured(f"DJQUEUE[{setting.name!r}] {exc}; it is {value!r}.") from None


def _did_you_mean(name: str) -> str:
    near = difflib.get_close_matches(str(name).upper(), DEFAULTS, n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


_PREAMBLE = """\
One dictionary in Django's settings, `DJQUEUE = {…}`; everything has a default. Names are those of Celery's
new-style settings in upper case, plus ours; lower case works on `app.conf`. `djqueue.conf.from_env()` reads
the dictionary from environment variables called `DJQUEUE_<NAME>`. This page is made from
`djqueue/core/defaults.py`."""

settings = Settings()


def _on_setting_changed(*, setting: str, **_: Any) -> None:
    if setting in ("DJQUEUE", "TIME_ZONE", "USE_TZ"):
        settings.reload()


setting_changed.connect(_on_setting_changed, dispatch_uid="djqueue.conf")
