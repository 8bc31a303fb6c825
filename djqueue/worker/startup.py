"""Starting while the broker is away: a worker waits for it, as Celery's does.

A broker comes in and can be reached when the call returns. Pauses grow by two seconds from 2 to 30, as often
as BROKER_CONNECTION_MAX_RETRIES says; BROKER_CONNECTION_RETRY_ON_STARTUP turns waiting off. A database is not
waited for: Django has asked it before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count

from djqueue.conf import settings
from djqueue.exceptions import OperationalError
from djqueue.messaging.contract import Broker
from djqueue.worker import log_lines

#: the first pause, by how much each is longer than the one before, and the longest, seconds
FIRST_PAUSE, STEP, LONGEST_PAUSE = 2.0, 2.0, 30.0


def wait_for(broker: Broker, queue: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Ask the broker for the size of a queue until it answers.

    Raises:
        djqueue.exceptions.OperationalError: it was asked as often as is allowed.
    """
    if broker.capabilities.transactional_alias is not None or not settings.BROKER_CONNECTION_RETRY_ON_STARTUP:
        return
    most = settings.BROKER_CONNECTION_MAX_RETRIES or None
    for number in count(1):
        try:
            broker.size(queue)
            return
        except OperationalError as error:
            if most is not None and number > most:
                raise
            pause = min(FIRST_PAUSE + STEP * (number - 1), LONGEST_PAUSE)
            log_lines.broker_awaited(str(error), pause)
        sleep(pause)
