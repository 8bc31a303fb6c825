"""procrastinate on PostgreSQL, without Django: its own psycopg connector, one worker with ten coroutines.

It keeps no results; a job that is done stays in the table with its state, which is what is counted.
"""

from __future__ import annotations

import os
import time

import psycopg
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

from benchmarks.contenders.verbs import Verbs

WHERE = os.environ["BENCH_POSTGRES"]

app = App(connector=PsycopgConnector(conninfo=WHERE))


@app.task(name="nothing")
async def nothing(number: int) -> int:
    """Return the number."""
    return number


def main() -> None:
    """Do the verb of the command line."""
    connector = SyncPsycopgConnector(conninfo=WHERE)
    with (
        app.replace_connector(connector) as sending,
        sending.open(),
        psycopg.connect(WHERE, autocommit=True) as looking,
    ):
        task = sending.tasks["nothing"]

        def wait(job: int) -> None:
            deadline = time.monotonic() + 30
            query = "SELECT status::text FROM procrastinate_jobs WHERE id = %s"
            while looking.execute(query, [job]).fetchone() != ("succeeded",) and time.monotonic() < deadline:
                time.sleep(0.002)

        def send_bulk(count: int) -> None:
            for start in range(0, count, 1000):
                task.batch_defer(*({"number": number} for number in range(start, min(start + 1000, count))))

        Verbs(
            send=lambda number: task.defer(number=number),
            wait=wait,
            send_bulk=send_bulk,
            prepare=sending.schema_manager.apply_schema,
        ).run()


if __name__ == "__main__":
    main()
