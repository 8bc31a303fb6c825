"""What remote control can ask of a worker, in rooms: questions, tasks, queues, the pool, the worker itself.

Importing this package declares all commands; `remote.py` obeys them in the loop's thread. The shapes of
replies are Celery's, so that its tools and Flower can read them.
"""

from __future__ import annotations

from djqueue.worker.commands import pools, questions, queues, tasks, workers

__all__ = ["pools", "questions", "queues", "tasks", "workers"]
