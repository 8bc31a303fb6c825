"""What a task says about itself, name, options and signature, and what holds where it says nothing.

The decorator and classes of users come in; sending reads the `Plan`, worker and execution read `option`.
Settings are looked at only then, never while a task is declared.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from djqueue.conf import settings
from djqueue.core.calls import Plan
from djqueue.exceptions import MaxRetriesExceededError, OperationalError
from djqueue.tasks.arguments import ArgumentCheck
from djqueue.tasks.options import IN_SETTINGS, OPTIONS, check_acks, check_together, checked

#: Options that the plan has as they are; None leaves the choice to the route or the settings.
_PLANNED = (
    *("serializer", "compression", "priority", "queue", "exchange", "routing_key", "delivery_mode"),
    *("expires", "time_limit", "soft_time_limit"),
)
_EMPTY: Mapping[str, Any] = {}


class Declaration:
    """The declared part of every task. Options are class or instance attributes; None leaves the choice.

    `abstract` marks a class that only serves as base of others.
    """

    name: str = ""
    abstract: ClassVar[bool] = True
    #: the function gets the task as its first argument
    is_bound: bool = False

    MaxRetriesExceededError: ClassVar[type[Exception]] = MaxRetriesExceededError
    OperationalError: ClassVar[type[Exception]] = OperationalError

    queue: str | None
    exchange: str | None
    routing_key: str | None
    priority: int | None
    delivery_mode: int | str | None
    serializer: str | None
    compression: str | None
    expires: Any
    typing: bool
    resultrepr_maxsize: int
    ignore_result: bool | None
    store_errors_even_if_ignored: bool | None
    store_eager_result: bool | None
    track_started: bool | None
    trail: bool
    throws: tuple[type[BaseException], ...]
    ack: str | None
    acks_late: bool | None
    acks_on_failure_or_timeout: bool | None
    acks_on_failure: bool | None
    acks_on_timeout: bool | None
    reject_on_worker_lost: bool | None
    rate_limit: str | int | float | None
    time_limit: float | None
    soft_time_limit: float | None
    max_retries: int | None
    default_retry_delay: float
    autoretry_for: tuple[type[BaseException], ...]
    dont_autoretry_for: tuple[type[BaseException], ...]
    retry_kwargs: Mapping[str, Any]
    retry_backoff: bool | int | float
    retry_backoff_max: float
    retry_jitter: bool

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work: the function that was decorated, or what a subclass defines."""
        raise NotImplementedError(f"{type(self).__name__} must define run().")

    def option(self, name: str) -> Any:
        """Return the option in force: TASK_ANNOTATIONS, else the task's own, else the settings' answer.

        Time limits that nobody sets are None here: the worker's own come before those of the settings.
        """
        annotated = self._annotations()
        value = annotated[name] if name in annotated else getattr(self, name)
        if value is None:
            for setting in IN_SETTINGS.get(name, ()):
                value = getattr(settings, setting)
                if value is not None:
                    break
        return value

    @property
    def plan(self) -> Plan:
        """What every call of this task has in common, made once."""
        annotations, ignored = settings.TASK_ANNOTATIONS, settings.TASK_IGNORE_RESULT
        known = self.__dict__.get("_plan")
        if known is not None and known[0] is annotations and known[1] is ignored:
            plan: Plan = known[2]
            return plan
        annotated = self._annotations()
        own = {name: annotated.get(name, getattr(self, name)) for name in _PLANNED}
        check_together(own["soft_time_limit"], own["time_limit"], f"Task {self.name}")
        plan = Plan(
            self.name, ignore_result=self.option("ignore_result"), repr_limit=self.resultrepr_maxsize, **own
        )
        self.__dict__["_plan"] = annotations, ignored, plan
        return plan

    @property
    def arguments(self) -> ArgumentCheck:
        """The check of arguments against the signature of `run`."""
        known: ArgumentCheck | None = self.__dict__.get("_arguments")
        if known is None:
            known = self.__dict__["_arguments"] = ArgumentCheck(self.name, inspect.signature(self.run))
        return known

    def is_plain_function(self) -> bool:
        """Return whether the task was made of a function that does not get the task as its first argument."""
        return "__wrapped__" in self.__dict__ and not self.is_bound

    def is_coroutine(self) -> bool:
        """Return whether `run` is an `async def`."""
        known: bool | None = self.__dict__.get("_is_coroutine")
        if known is None:
            known = self.__dict__["_is_coroutine"] = inspect.iscoroutinefunction(self.run)
        return known

    def check(self) -> None:
        """Check the options, from the class or from the decorator, and take over the normalised values.

        Raises:
            ValueError: an option has a value it cannot have.
        """
        whose = f"Task {self.name}"
        for name, value in checked({name: getattr(self, name) for name in OPTIONS}, whose).items():
            if getattr(self, name) is not value:
                setattr(self, name, value)
        check_together(self.soft_time_limit, self.time_limit, whose)
        check_acks(self.ack, self.acks_late, whose)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OPTIONS:
            self.__dict__.pop("_plan", None)
        super().__setattr__(name, value)

    def _annotations(self) -> Mapping[str, Any]:
        """Return what TASK_ANNOTATIONS says about this task, checked; its own entry wins over `*`."""
        all_annotations = settings.TASK_ANNOTATIONS
        if not all_annotations:
            return _EMPTY
        known = self.__dict__.get("_annotated")
        if known is None or known[0] is not all_annotations:
            given = {**all_annotations.get("*", _EMPTY), **all_annotations.get(self.name, _EMPTY)}
            values = checked(given, f"TASK_ANNOTATIONS for {self.name}")
            known = self.__dict__["_annotated"] = all_annotations, values
        annotated: Mapping[str, Any] = known[1]
        return annotated


for _name, _option in OPTIONS.items():
    setattr(Declaration, _name, _option.default)


def default_name(thing: Callable[..., Any] | type) -> str:
    """Return the name of a task that was given none: `<module>.<function>`.

    What is declared in the script being run gets that script's module name, which importers use as well.
    """
    module = thing.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        module = spec.name.removesuffix(".__main__") if spec else Path(file).stem if file else module
    return f"{module}.{thing.__name__}"
