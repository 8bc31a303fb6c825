"""Waiting messages and dead letters in the admin: to be looked at, and dead letters to be tried again.

Staff come in with the permission to view them. Arguments need a permission of their own, and so does putting
dead letters back into their queue, which is logged like every change in the admin.
"""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from djqueue.exceptions import OperationalError
from djqueue.log import escape
from djqueue.messaging import brokers
from djqueue.messaging.tables.deadletters import requeue
from djqueue.models import DeadLetter, Message, StoredMessage

#: how much of a body is shown, characters
LONGEST_BODY = 4096
PLACE: Any = ("queue", "exchange", "routing_key", "priority")


@admin.display(description=_("task"), ordering="task")
def task(message: StoredMessage) -> str:
    """Return the task's name, as far as it can be trusted to look like one."""
    return escape(message.task, 100) or "-"


@admin.display(description=_("task id"), ordering="task_id")
def task_id(message: StoredMessage) -> str:
    """Return the task's id."""
    return escape(message.task_id, 100) or "-"


@admin.display(description=_("due"), ordering="due")
def due(message: Message) -> Any:
    """Return the moment from which the message may run."""
    return message.due_at


@admin.display(description=_("headers"))
def headers(message: StoredMessage) -> str:
    """Return the headers, one per line."""
    return _lines(message.headers)


@admin.display(description=_("properties"))
def properties(message: StoredMessage) -> str:
    """Return the properties, one per line."""
    return _lines(message.properties)


@admin.display(description=_("body"))
def body(message: StoredMessage) -> str:
    """Return the beginning of the body."""
    return escape(bytes(message.body).decode("utf-8", "backslashreplace"), LONGEST_BODY)


class StoredMessageAdmin(admin.ModelAdmin):
    """What the pages of messages and of dead letters have in common."""

    search_fields = ("task_id", "task")
    search_help_text = _("Search in ids and task names.")
    list_display_links = (task_id,)
    list_per_page = 50
    show_full_result_count = False
    #: what is shown besides place and task
    facts: tuple[Any, ...] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows of the broker's database."""
        found = super().get_queryset(request)
        alias = brokers.broker().capabilities.transactional_alias
        return found.using(alias) if alias else found

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: messages are sent by code."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: a message is what was sent."""
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return what this visitor may see of a message."""
        fieldsets: list[Any] = [(None, {"fields": (task_id, task, *PLACE, *self.facts)})]
        if request.user.has_perm("djqueue.view_content"):
            content = ("content_type", "content_encoding", headers, properties, body)
            fieldsets.append((_("Content"), {"fields": content}))
        return fieldsets

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Return every field there is on the page."""
        return [field for _, options in self.get_fieldsets(request, obj) for field in options["fields"]]


@admin.register(Message)
class MessageAdmin(StoredMessageAdmin):
    """The page of messages that wait or are held by a worker."""

    list_display = (task_id, task, "queue", "priority", due, "claimed_by", "starts", "created")
    list_filter = ("queue", "redelivered")
    ordering = ("priority", "id")
    facts = (due, "claimed_by", "claimed_at", "starts", "redelivered", "created")

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: queues are emptied with `djqueue purge`."""
        return False


@admin.register(DeadLetter)
class DeadLetterAdmin(StoredMessageAdmin):
    """The page of messages that were given up."""

    list_display = (task_id, task, "queue", "reason", "starts", "worker", "buried_at")
    list_filter = ("reason", "queue", "buried_at")
    date_hierarchy = "buried_at"
    ordering = ("-buried_at",)
    actions = ("requeue",)
    facts = ("reason", "detail", "starts", "worker", "buried_at")

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """Return whether this visitor may put dead letters back."""
        return bool(request.user.has_perm("djqueue.requeue_deadletter"))

    @admin.action(description=_("Put back into their queue"), permissions=["requeue"])
    def requeue(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        """Send the chosen dead letters once more."""
        try:
            sent, unreadable = requeue(queryset.order_by("pk"))
        except OperationalError as error:
            self.message_user(request, str(error), messages.ERROR)
            return
        for letter in sent:
            self.log_change(request, letter, f"Put back into the queue {escape(letter.queue)}.")
        if sent:
            text = ngettext("%d dead letter was put back.", "%d dead letters were put back.", len(sent))
            self.message_user(request, text % len(sent), messages.SUCCESS)
        if unreadable:
            text = ngettext("%d cannot be read and stays.", "%d cannot be read and stay.", len(unreadable))
            self.message_user(request, text % len(unreadable), messages.WARNING)


def _lines(text: str) -> str:
    """Return a JSON object as one `name: value` per line, or the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        return escape(text, LONGEST_BODY)
    if not isinstance(value, dict):
        return escape(text, LONGEST_BODY)
    return "\n".join(f"{escape(name)}: {escape(json.dumps(one))}" for name, one in value.items())
