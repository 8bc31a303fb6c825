"""The tables of the database broker: messages, who holds them, dead letters, revocations, kombu's bindings.

A message is kept whole, as it came (body, headers, properties); only what scheduling and people need is
copied into columns of its own. The broker writes these tables with SQL of its own (`claims.py`); the admin
and tests read them through the models.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

#: Names and ids longer than this are not kept by any broker.
LONGEST_NAME = 255


class StoredMessage(models.Model):
    """What messages and dead letters have in common: the message itself and where it was going.

    `starts` is how often running it was begun without an end.
    """

    queue = models.CharField(_("queue"), max_length=LONGEST_NAME)
    exchange = models.CharField(_("exchange"), max_length=LONGEST_NAME, blank=True, default="")
    routing_key = models.CharField(_("routing key"), max_length=LONGEST_NAME, blank=True, default="")
    task = models.CharField(_("task"), max_length=LONGEST_NAME, blank=True, default="")
    task_id = models.CharField(_("task id"), max_length=LONGEST_NAME, blank=True, default="")
    priority = models.SmallIntegerField(_("priority"), default=0, help_text=_("0 comes first."))
    starts = models.PositiveIntegerField(_("starts"), default=0)
    body = models.BinaryField(_("body"))
    headers = models.TextField(_("headers"), default="{}")
    properties = models.TextField(_("properties"), default="{}")
    content_type = models.CharField(_("content type"), max_length=LONGEST_NAME, blank=True, default="")
    content_encoding = models.CharField(
        _("content encoding"), max_length=LONGEST_NAME, blank=True, default=""
    )

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.task or _('message')}[{self.task_id or self.pk}]"


class Message(StoredMessage):
    """A message that waits in a queue, or that a worker holds (`claimed_by`).

    `due` is in seconds since the epoch, not a datetime: such a number means the same moment with and without
    USE_TZ, also in the hour that daylight saving repeats. It is empty as soon as the message may run.
    """

    due = models.FloatField(_("due"), null=True, blank=True)
    redelivered = models.BooleanField(_("redelivered"), default=False)
    claimed_by = models.CharField(_("claimed by"), max_length=LONGEST_NAME, blank=True, default="")
    claimed_at = models.DateTimeField(_("claimed at"), null=True, blank=True)
    created = models.DateTimeField(_("created"), default=timezone.now)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        default_permissions = ("view",)
        permissions = [("view_content", "Can see headers and arguments of messages")]
        # One index serves the claim (unclaimed, not waiting for its moment, by priority), the look for due
        # messages, the sizes of queues, and what a dead worker held.
        indexes = [
            models.Index(fields=["claimed_by", "queue", "due", "priority", "id"], name="djqueue_message_turn")
        ]

    @property
    def due_at(self) -> datetime | None:
        """The moment from which the message may run."""
        return None if self.due is None else datetime.fromtimestamp(self.due, UTC)


class DeadLetter(StoredMessage):
    """A message that was given up, with the reason: a stable word, and a sentence for people."""

    reason = models.CharField(_("reason"), max_length=64, db_index=True)
    detail = models.TextField(_("detail"), blank=True, default="")
    worker = models.CharField(_("last worker"), max_length=LONGEST_NAME, blank=True, default="")
    buried_at = models.DateTimeField(_("buried at"), default=timezone.now, db_index=True)

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        default_permissions = ("view", "delete")
        permissions = [("requeue_deadletter", "Can put dead letters back into their queue")]


class Claimer(models.Model):
    """Who may hold messages, on a database server: a worker, or a consuming connection of kombu's.

    The row is the claimer's lease, good until `lease_until` (seconds since the epoch, by the server's clock).
    `session` names the server's session that holds the claimer's lock, empty if there is none to rely on;
    `machine` is where it runs, and `started` are the tags of what it runs, one on a line.
    """

    name = models.CharField(_("name"), max_length=LONGEST_NAME, unique=True)
    lease_until = models.FloatField(_("lease until"))
    session = models.CharField(_("session"), max_length=64, blank=True, default="")
    machine = models.CharField(_("machine"), max_length=64, blank=True, default="")
    started = models.TextField(_("started"), blank=True, default="")

    class Meta:
        verbose_name = _("claimer")
        verbose_name_plural = _("claimers")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name


class Binding(models.Model):
    """Which queue gets what is sent to an exchange; written by kombu's clients.

    `subscriber` is the process that owns the queue, for queues that live as long as their reader (events,
    remote control); such a row goes when its subscriber does. Empty: the queue is durable.
    `kind` is the type of the exchange: direct, topic or fanout. `keep_for` is how many seconds a message may
    wait in such a queue (0: as long as it lives).
    """

    exchange = models.CharField(max_length=LONGEST_NAME)
    kind = models.CharField(max_length=16, default="direct")
    routing_key = models.CharField(max_length=LONGEST_NAME, blank=True, default="")
    queue = models.CharField(max_length=LONGEST_NAME, db_index=True)
    subscriber = models.CharField(max_length=LONGEST_NAME, blank=True, default="", db_index=True)
    keep_for = models.FloatField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["exchange", "routing_key", "queue"], name="djqueue_binding_once")
        ]

    def __str__(self) -> str:
        return f"{self.exchange}/{self.routing_key} → {self.queue}"


class Revocation(models.Model):
    """A task that no worker is to run, whether it waits, is delayed or was received.

    Kept for REVOCATION_EXPIRES. `revoked_at` is in seconds since the epoch, as `Message.due`.
    """

    task_id = models.CharField(_("task id"), max_length=LONGEST_NAME, unique=True)
    revoked_at = models.FloatField(_("revoked at"), db_index=True)

    class Meta:
        verbose_name = _("revocation")
        verbose_name_plural = _("revocations")
        default_permissions = ("view", "delete")

    def __str__(self) -> str:
        return self.task_id
