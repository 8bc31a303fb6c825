"""What kombu's transports do not tell of themselves, and which extra of djqueue brings what each needs.

A URL comes in; the name of its transport and its `Traits` leave. A transport that is not listed is expected
to lose what a killed worker held, as most do.
"""

from __future__ import annotations

from dataclasses import dataclass

from kombu.transport import TRANSPORT_ALIASES

from djqueue.messaging.urls import scheme


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of one transport.

    `redelivers`: what a killed worker held comes back by itself. `keeps_order`: messages of a queue come in
    the order in which they were sent. `has_priorities`: those of lower numbers come first. `extra`: of
    djqueue, with the client library. `look_every`: how often to look for messages, seconds; None leaves it to
    kombu.
    """

    redelivers: bool = False
    keeps_order: bool = False
    has_priorities: bool = False
    extra: str = ""
    look_every: float | None = None


UNKNOWN = Traits()
_TRAITS = {
    "azureservicebus": Traits(redelivers=True, keeps_order=True, extra="azureservicebus"),
    "azurestoragequeues": Traits(redelivers=True, extra="azurestoragequeues"),
    "confluentkafka": Traits(keeps_order=True, extra="confluentkafka"),
    "consul": Traits(extra="consul"),
    "etcd": Traits(keeps_order=True, extra="etcd", look_every=0.2),
    "filesystem": Traits(keeps_order=True, look_every=0.1),
    "gcpubsub": Traits(redelivers=True, extra="gcpubsub"),
    "mongodb": Traits(keeps_order=True, extra="mongodb"),
    "pgmq": Traits(redelivers=True, keeps_order=True, extra="pgmq"),
    "pyro": Traits(keeps_order=True, extra="pyro"),
    "qpid": Traits(redelivers=True, keeps_order=True, extra="qpid"),
    "slmq": Traits(redelivers=True, extra="slmq"),
    "sqlalchemy": Traits(keeps_order=True, extra="sqlalchemy", look_every=0.2),
    "sqs": Traits(redelivers=True, extra="sqs"),
    "zookeeper": Traits(keeps_order=True, has_priorities=True, extra="zookeeper", look_every=0.2),
}
_SAME = {"kafka": "confluentkafka", "sqla": "sqlalchemy", "SQS": "sqs", "SLMQ": "slmq"}


def transport_of(url: str) -> str | None:
    """Return the name or dotted path of the kombu transport that a URL names; None if there is none."""
    name = scheme(url).partition("+")[0]
    return name if name in TRANSPORT_ALIASES or "." in name else None


def traits_of(transport: str) -> Traits:
    """Return what is known of the transport of that name."""
    return _TRAITS.get(_SAME.get(transport, transport), UNKNOWN)
