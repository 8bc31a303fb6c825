"""What a signature is made of: a dictionary with Celery's six keys, which travels inside messages as it is.

Content comes in from callers or from messages; the class that its `subtask_type` asks for leaves. Kinds of
signatures made of others (chains, groups, chords) register here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any, ClassVar, TypeVar

from djqueue.core.registry import tasks

C = TypeVar("C", bound="Content")


class Content(dict[str, Any]):
    """The dictionary and its parts as attributes.

    `task` is a name, a task, or another signature (a dictionary) to copy. Options are those of `apply_async`.
    """

    #: classes by `subtask_type`; "" is the class of single tasks
    TYPES: ClassVar[dict[str, type[Content]]] = {}

    def __init__(
        self,
        task: Any = None,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        **more_options: Any,
    ) -> None:
        if isinstance(task, Mapping):
            self._copy(task)
            return
        super().__init__(
            task=task if isinstance(task, str) else _name_of(task),
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options={**(options or {}), **more_options},
            subtask_type=subtask_type,
            immutable=immutable,
        )

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[type[C]], type[C]]:
        """Return a decorator that makes the class the one of dictionaries with this `subtask_type`.

        Without a name it is that of the class.
        """

        def register(kind: type[C]) -> type[C]:
            cls.TYPES[kind.__name__ if name is None else name] = kind
            return kind

        return register

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Any:
        """Return the signature that a dictionary describes, a copy, in the class its type asks for."""
        types = Content.TYPES
        kind = types.get(content.get("subtask_type") or "", types[""])
        made = kind.__new__(kind)
        made._copy(content)
        return made

    # -- parts ---------------------------------------------------------------------------------------

    @property
    def type(self) -> Any:
        """The registered task."""
        return tasks[self["task"]]

    @property
    def task(self) -> str:
        """The task's name."""
        name: str = self["task"]
        return name

    name = task

    @property
    def args(self) -> Any:
        """The positional arguments."""
        return self["args"]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments."""
        kwargs: dict[str, Any] = self["kwargs"]
        return kwargs

    @property
    def options(self) -> dict[str, Any]:
        """The options of `apply_async`."""
        options: dict[str, Any] = self["options"]
        return options

    @property
    def subtask_type(self) -> str | None:
        """What kind of signature this is; None for one task."""
        kind: str | None = self["subtask_type"]
        return kind

    @property
    def immutable(self) -> bool:
        """Whether arguments given later are ignored."""
        return bool(self["immutable"])

    @property
    def id(self) -> str | None:
        """The task's id, if it is decided."""
        return self.options.get("task_id")

    @property
    def parent_id(self) -> str | None:
        """The id of the task that sent this one, if it is decided."""
        return self.options.get("parent_id")

    @property
    def root_id(self) -> str | None:
        """The id of the first task of all, if it is decided."""
        return self.options.get("root_id")

    # -- as a value ----------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        memo[id(self)] = copy = Content.from_dict(self)
        return copy

    def __copy__(self) -> Any:
        return Content.from_dict(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return Content.from_dict, (dict(self),)

    def __repr__(self) -> str:
        return self.reprcall()

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """Return the call with these arguments before its own, as Python would write it."""
        named = {**self.kwargs, **kwargs}
        given = [*map(repr, (*args, *self.args)), *(f"{name}={value!r}" for name, value in named.items())]
        return f"{self.task}({', '.join(given)})"

    def _copy(self, content: Mapping[str, Any]) -> None:
        """Take over what a dictionary describes; arguments are not copied, they may be iterators."""
        self.update(
            task=content.get("task"),
            args=content.get("args") or (),
            kwargs=dict(content.get("kwargs") or {}),
            options=deepcopy(content.get("options") or {}),
            subtask_type=content.get("subtask_type"),
            immutable=bool(content.get("immutable")),
        )


def listed(value: Any) -> list[Any]:
    """Return an option that may be one signature, several or none as a list."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _name_of(task: Any) -> str:
    name = getattr(task, "name", None)
    if not isinstance(name, str):
        raise TypeError(f"A signature is made of a task or its name; it was given {task!r}.")
    return name
