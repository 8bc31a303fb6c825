"""Every line that brokers write to the log, with its level and its wording.

Lines start with a stable event name followed by key=value pairs; tests and alerts match those names.
Whatever came from outside is escaped.
"""

from __future__ import annotations

import logging

from djqueue.log import escape

logger = logging.getLogger("djqueue.broker")


def recovered(count: int, started: int, owner: str) -> None:
    """Messages of a worker that is gone were given back; `started` of them had been begun."""
    logger.warning("djq.recovered n=%d started=%d from=%s", count, started, escape(owner))


def strays(count: int) -> None:
    """Messages were given back that a claim had taken whose answer was lost with the connection."""
    logger.warning("djq.broker.strays n=%d", count)


def unreadable(queue: str, key: str, detail: str) -> None:
    """A message could not be read and was put aside as a dead letter."""
    logger.error(
        "djq.dead reason=undecodable id=%s queue=%s detail=%s", escape(key), escape(queue), escape(detail)
    )


def journal_mode(alias: str, mode: str) -> None:
    """The database file was put into another journal mode."""
    logger.info("djq.sqlite.journal alias=%s mode=%s", escape(alias), escape(mode))


def no_wal(alias: str, mode: str) -> None:
    """The database file cannot be put into WAL mode."""
    logger.warning("djq.sqlite.no_wal alias=%s mode=%s", escape(alias), escape(mode))


def no_doorbell(reason: str) -> None:
    """No wake-ups will arrive, so the worker looks for messages by itself."""
    logger.warning("djq.broker.no_wakeup reason=%s", escape(reason))


def subscriber_gone(subscriber: str) -> None:
    """A process that read events or remote control is gone; its queues went with it."""
    logger.info("djq.subscriber.gone name=%s", escape(subscriber))


def pooled(alias: str) -> None:
    """A pooler lends the worker sessions by turns: no lock and no wake-up, so leases and looking must do."""
    logger.warning(
        "djq.database.pooled alias=%s effect=%s remedy=%s",
        escape(alias),
        "no wake-ups, takeover by lease",
        "BROKER_TRANSPORT_OPTIONS['direct_alias']",
    )


def results_not_announced(alias: str) -> None:
    """A pooler is in between, so that whoever waits for a result looks for it again and again."""
    logger.info("djq.result.pooled alias=%s effect=%s", escape(alias), "results are polled for")


def lease_lost(held: int) -> None:
    """This worker gave no sign of life for so long that others took over what it held."""
    logger.error("djq.lease.lost held=%d", held)


def data_loss(held: int) -> None:
    """The server no longer knows this worker: it has lost its data, or somebody deleted it."""
    logger.critical("djq.broker.data_loss held=%d", held)


def clock_skew(seconds: float) -> None:
    """This machine's clock and the broker's differ, so what is due is run too early or too late."""
    logger.warning("djq.clock.skew ahead_s=%.1f", seconds)


def eviction(policy: str) -> None:
    """The server may throw away keys that expire, results among them."""
    logger.warning("djq.broker.eviction policy=%s", escape(policy))


def server_unknown(error: str) -> None:
    """The server does not say its version and policies, so they could not be checked."""
    logger.warning("djq.broker.unchecked error=%s", escape(error))


def thread_failed(error: str) -> None:
    """Something unforeseen happened in a thread that keeps the lease or waits for messages; it goes on."""
    logger.error("djq.broker.thread_failed error=%s", escape(error))


def not_left(error: str) -> None:
    """The worker could not give back what it held; others take it over when its lease ends."""
    logger.error("djq.broker.not_left error=%s", escape(error))


def duplicate_node(node: str) -> None:
    """Two workers of one name answered; only one of the answers is shown."""
    logger.warning("djq.control.duplicate_node name=%s", escape(node))


def letters_not_sent(error: str) -> None:
    """Events and replies cannot be sent; they are dropped until they can."""
    logger.warning("djq.events.not_sent error=%s", escape(error))


def letters_lost(count: int) -> None:
    """Events and replies are sent again; so many messages of theirs were dropped."""
    logger.warning("djq.events.lost messages=%d", count)


def deaf(error: str) -> None:
    """The worker cannot hear remote control."""
    logger.warning("djq.control.deaf error=%s", escape(error))


def hears_again() -> None:
    """The worker hears remote control again."""
    logger.info("djq.control.hears_again")


def flooded(method: str) -> None:
    """Commands come faster than the worker can obey; this one was dropped."""
    logger.warning("djq.control.flooded dropped=%s", escape(method))


def unreadable_command(error: str) -> None:
    """A message in the mailbox could not be read."""
    logger.warning("djq.control.unreadable error=%s", escape(error))


def deaf_to_broadcasts(error: str) -> None:
    """What is sent to everybody is not heard until Redis can be reached again."""
    logger.warning("djq.broadcast.deaf error=%s", escape(error))


def broadcasts_gone(count: int) -> None:
    """A worker ends before it has run all that was sent to everybody; its copies end with it."""
    logger.warning("djq.broadcast.gone messages=%d", count)


def broadcast_dropped(queue: str) -> None:
    """More was sent to everybody than a worker keeps; its oldest copy was dropped."""
    logger.error("djq.broadcast.dropped queue=%s", escape(queue))


def declared_otherwise(queue: str, detail: str) -> None:
    """A queue exists with other arguments than ours; it is used as it is."""
    logger.warning("djq.queue.declared_otherwise queue=%s detail=%s", escape(queue), escape(detail))


def not_fetching(error: str) -> None:
    """Nothing can be fetched from the broker; it is tried again until it is back."""
    logger.warning("djq.broker.not_fetching error=%s", escape(error))


def fetching_again() -> None:
    """Messages are fetched from the broker again."""
    logger.info("djq.broker.fetching_again")
