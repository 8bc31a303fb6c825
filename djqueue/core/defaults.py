"""Every setting of djqueue on one page: name, default, kind, and what it does.

`conf.py` reads the user's DJQUEUE dictionary against this page; the settings page of the docs, the system
checks and the reader of environment variables are made from it. A setting is listed only when it works.
Names are Celery's new-style names in upper case, plus ours.
"""

from __future__ import annotations

from types import MappingProxyType

from djqueue.core.broker_defaults import BROKER, EMPTY, QUEUES, Setting
from djqueue.core.kinds import (
    BOOLEAN,
    EXCEPTIONS,
    LIMIT,
    MAPPING,
    OPTIONS_BY_NAME,
    PUBLISH_POLICY,
    RATE,
    ROUTES,
    SECONDS,
    TEXT,
    TEXTS,
    TIMEZONE,
    one_of,
    optional,
    whole,
)
from djqueue.core.store_defaults import STORES

GROUPS: dict[str, tuple[Setting, ...]] = {
    "Broker": BROKER,
    "Results": (
        Setting(
            "RESULT_BACKEND",
            None,
            optional(TEXT),
            "Where results are kept. None: `django-db` when `djqueue_results` is installed, else nowhere; "
            "`disabled` keeps nothing.",
        ),
        Setting("RESULT_BACKEND_TRANSPORT_OPTIONS", EMPTY, MAPPING, "Options of a result store on a server."),
        Setting("RESULT_SERIALIZER", "json", TEXT, "How results are written."),
        Setting(
            "RESULT_ACCEPT_CONTENT",
            None,
            optional(TEXTS),
            "Content types read from results. None: as ACCEPT_CONTENT.",
        ),
        Setting(
            "RESULT_EXPIRES",
            86400.0,
            optional(SECONDS),
            "How long to keep results. None or 0: for ever.",
        ),
        Setting(
            "RESULT_FAILURE_EXPIRES",
            None,
            optional(SECONDS),
            "In Redis: how long to keep results of failed tasks. None: as RESULT_EXPIRES; 0: for ever.",
        ),
        Setting(
            "RESULT_COMPRESSION",
            None,
            optional(TEXT),
            "How to compress results, such as `zlib`, `bzip2`, `lzma`, where the store keeps any bytes.",
        ),
        Setting(
            "RESULT_EXTENDED",
            True,
            BOOLEAN,
            "Keep name, arguments, worker, queue and retries with the result. Off in Celery; on here, so "
            "that the admin has something to show.",
        ),
        Setting(
            "CACHE_BACKEND",
            None,
            optional(TEXT),
            "With the store `django-cache`: which of CACHES. None: the default one.",
        ),
        Setting(
            "CACHE_BACKEND_OPTIONS",
            EMPTY,
            MAPPING,
            "With the store `cache+memcached://…`: options of pymemcache's client.",
        ),
        *STORES,
        Setting(
            "RESULT_PERSISTENT",
            False,
            BOOLEAN,
            "With the store `rpc://`: the broker writes results to disk, as it does tasks.",
        ),
        Setting(
            "RESULT_EXCEPTIONS",
            "imported",
            EXCEPTIONS,
            "Which exception classes are rebuilt from results: `imported` (any class of an already imported "
            "module), `strict` (Python's and djqueue's own), or a list of dotted names besides those.",
        ),
        Setting(
            "RESULT_CHORD_EXPIRES",
            None,
            optional(SECONDS),
            "How long to keep what is counted of a chord. None: as RESULT_EXPIRES; 0: for ever.",
        ),
        Setting(
            "RESULT_CHORD_RETRY_INTERVAL",
            1.0,
            SECONDS,
            "How often to ask whether a chord's header has ended, where the result store does not count.",
        ),
        Setting(
            "RESULT_CHORD_JOIN_TIMEOUT",
            3.0,
            optional(SECONDS),
            "How long a result of a header that is complete may be missing before the chord fails.",
        ),
    ),
    "Sending": (
        Setting(
            "TASK_DEFAULT_QUEUE", "default", TEXT, "The queue of tasks that name none (`celery` in Celery)."
        ),
        Setting(
            "TASK_ROUTES",
            None,
            optional(ROUTES),
            "Which queue and options a task gets: a dict by name, pattern or regular expression, a function, "
            "or a list of those; the first answer wins.",
        ),
        *QUEUES,
        Setting("TASK_SERIALIZER", "json", TEXT, "How arguments are written."),
        Setting(
            "TASK_COMPRESSION",
            None,
            optional(TEXT),
            "How to compress bodies, such as `zlib`, `bzip2`, `lzma`.",
        ),
        Setting("TASK_PROTOCOL", 2, one_of(2, 1), "The message protocol to write; both are read."),
        Setting("TASK_REPR_MAXLEVELS", 3, whole(1), "How deep representations of arguments go.", "levels"),
        Setting(
            "TASK_DEFAULT_PRIORITY",
            None,
            optional(whole(0, 255)),
            "Priority of tasks that name none. On databases and Redis 0 comes first, on RabbitMQ 9.",
        ),
        Setting(
            "TASK_INHERIT_PARENT_PRIORITY", False, BOOLEAN, "Tasks sent by a task get that task's priority."
        ),
        Setting(
            "TASK_DEFAULT_DELIVERY_MODE",
            2,
            one_of(2, 1, "persistent", "transient"),
            "2 or `persistent`: brokers write messages to disk; 1 or `transient`: they need not.",
        ),
        Setting(
            "TASK_ON_COMMIT",
            True,
            BOOLEAN,
            "Inside a transaction, send when it commits, and drop the task when it rolls back.",
        ),
        Setting(
            "TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER",
            False,
            BOOLEAN,
            "`chord.link_error` links to each task of the header as well.",
        ),
        Setting("TASK_PUBLISH_RETRY", True, BOOLEAN, "Try again when the broker does not take a message."),
        Setting(
            "TASK_PUBLISH_RETRY_POLICY",
            MappingProxyType({}),
            PUBLISH_POLICY,
            "Changes to: 3 times, after 0, 0.2 and 0.4 s (`max_retries`, `interval_start`, `interval_step`, "
            "`interval_max`), none later than 6 s (`timeout`).",
        ),
        Setting("TASK_ALWAYS_EAGER", False, BOOLEAN, "Run tasks at once, in the calling process."),
        Setting("TASK_EAGER_PROPAGATES", False, BOOLEAN, "An eager task's exception reaches the caller."),
        Setting("TASK_STORE_EAGER_RESULT", False, BOOLEAN, "Keep the results of eager tasks, too."),
    ),
    "Running": (
        Setting("ACCEPT_CONTENT", ("json",), TEXTS, "Content types (names or MIME types) that are read."),
        Setting("TASK_IGNORE_RESULT", False, BOOLEAN, "Keep no result unless the task or the call says so."),
        Setting(
            "TASK_STORE_ERRORS_EVEN_IF_IGNORED",
            False,
            BOOLEAN,
            "Keep failures even if results are ignored.",
        ),
        Setting("TASK_TRACK_STARTED", True, BOOLEAN, "Keep the state STARTED (off in Celery)."),
        Setting(
            "TASK_ACKS_LATE",
            True,
            BOOLEAN,
            "A message leaves the broker after its task ran, so that a killed worker loses nothing (off in "
            "Celery). `acks_late=False` per task for at most once.",
        ),
        Setting(
            "TASK_ACKS_ON_FAILURE_OR_TIMEOUT",
            True,
            BOOLEAN,
            "With late acknowledgement: a failed or timed-out task is done with. False: it becomes a dead "
            "letter.",
        ),
        Setting(
            "TASK_ACKS_ON_FAILURE",
            None,
            optional(BOOLEAN),
            "The same for failures only. None: as TASK_ACKS_ON_FAILURE_OR_TIMEOUT.",
        ),
        Setting(
            "TASK_ACKS_ON_TIMEOUT",
            None,
            optional(BOOLEAN),
            "The same for time limits only. None: as TASK_ACKS_ON_FAILURE_OR_TIMEOUT.",
        ),
        Setting(
            "TASK_REJECT_ON_WORKER_LOST",
            None,
            optional(BOOLEAN),
            "What becomes of a late-acknowledged task whose process died. None or True: it is delivered "
            "again; False: it has failed.",
        ),
        Setting(
            "TASK_MAX_DELIVERIES",
            5,
            whole(1),
            "How often running one message may be begun without an end (crashes) before it fails with "
            "WorkerLostError and is kept as a dead letter.",
            "starts",
        ),
        Setting(
            "TASK_UNKNOWN_REQUEUES",
            3,
            whole(0),
            "How often a task that the worker does not know goes back to its queue for another that may, "
            "after 1, 2, 4… seconds, before it fails and is kept as a dead letter (Celery drops it at once).",
            "times",
        ),
        Setting("TASK_TIME_LIMIT", None, optional(LIMIT), "After this a task is killed."),
        Setting(
            "TASK_SOFT_TIME_LIMIT",
            None,
            optional(LIMIT),
            "After this SoftTimeLimitExceeded is raised in the task.",
        ),
        Setting(
            "TASK_DEFAULT_RATE_LIMIT",
            None,
            optional(RATE),
            "How often a worker starts each task that names no rate of its own.",
        ),
        Setting(
            "TASK_ANNOTATIONS",
            None,
            optional(OPTIONS_BY_NAME),
            "Options by task name that win over those in the code; `*` is for all tasks.",
        ),
        Setting("IMPORTS", (), TEXTS, "Modules imported for their tasks, besides the apps' `tasks`."),
        Setting("INCLUDE", (), TEXTS, "More such modules, imported after IMPORTS."),
    ),
    "Time": (
        Setting("TIMEZONE", None, optional(TIMEZONE), "Time zone of schedules. None: Django's TIME_ZONE."),
        Setting("ENABLE_UTC", True, BOOLEAN, "Write times in messages in UTC; False: in TIMEZONE."),
    ),
    "Worker": (
        Setting("WORKER_POOL", "prefork", TEXT, "How tasks run in parallel: `prefork`, `threads`, `solo`."),
        Setting("WORKER_CONCURRENCY", None, optional(whole(1)), "How many at a time. None: one per CPU."),
        Setting(
            "WORKER_PREFETCH_MULTIPLIER",
            0,
            whole(0),
            "The most messages held per child. 0: one for slow tasks, dozens for quick ones.",
            "messages",
        ),
        Setting(
            "WORKER_MAX_TASKS_PER_CHILD",
            None,
            optional(whole(1)),
            "After so many tasks a child process is replaced.",
            "tasks",
        ),
        Setting(
            "WORKER_MAX_MEMORY_PER_CHILD",
            None,
            optional(whole(1)),
            "A child process that holds more is replaced after its task.",
            "KiB",
        ),
        Setting(
            "WORKER_DIRECT",
            False,
            BOOLEAN,
            "Each worker also consumes a queue of its own, `<name of the worker>.dq2` (exchange `C.dq2`).",
        ),
        Setting(
            "WORKER_AUTOSCALER",
            "djqueue.worker.autoscale.Autoscaler",
            TEXT,
            "The class that fits the pool to the work at hand under `--autoscale`.",
        ),
        Setting(
            "WORKER_AUTOSCALE_KEEPALIVE",
            30.0,
            SECONDS,
            "Under `--autoscale` the pool shrinks when nothing came in for so long (in Celery the "
            "environment variable AUTOSCALE_KEEPALIVE).",
        ),
        Setting("WORKER_POOL_RESTARTS", False, BOOLEAN, "Workers obey `pool_restart` and replace children."),
        Setting("WORKER_DISABLE_RATE_LIMITS", False, BOOLEAN, "Start tasks without regard to their rates."),
        Setting(
            "WORKER_SHUTDOWN_GRACE",
            25.0,
            optional(SECONDS),
            "How long a stopping worker lets late-acknowledged tasks run before they go back to their "
            "queue, uncounted. None: without limit, as Celery.",
        ),
        Setting(
            "WORKER_ENABLE_REMOTE_CONTROL", True, BOOLEAN, "Workers obey commands, and answer questions."
        ),
        Setting("WORKER_SEND_TASK_EVENTS", False, BOOLEAN, "Workers send events about tasks (`-E`)."),
        Setting(
            "WORKER_REVOKES_MAX",
            50_000,
            whole(1),
            "How many revoked tasks a worker keeps in mind; beyond that the oldest are forgotten.",
            "tasks",
        ),
        Setting("WORKER_SQLITE_WAL", True, BOOLEAN, "The worker puts SQLite files into WAL mode."),
    ),
    "Remote control and events": (
        Setting(
            "CONTROL_EXCHANGE", "celery", TEXT, "What the names of the exchanges of commands begin with."
        ),
        Setting("CONTROL_QUEUE_TTL", 300.0, optional(SECONDS), "How long commands wait for a worker."),
        Setting("CONTROL_QUEUE_EXPIRES", 10.0, optional(SECONDS), "How long a queue without reader is kept."),
        Setting(
            "REVOCATION_EXPIRES",
            604_800.0,
            LIMIT,
            "How long a revoked task stays revoked (Celery: 3 hours): more than your longest countdown.",
        ),
        Setting("TASK_SEND_SENT_EVENT", False, BOOLEAN, "Whoever sends a task tells monitors."),
        Setting("EVENT_EXCHANGE", "celeryev", TEXT, "The exchange of events."),
        Setting("EVENT_SERIALIZER", "json", TEXT, "How events are written."),
        Setting("EVENT_QUEUE_PREFIX", "celeryev", TEXT, "What the names of monitors' queues begin with."),
        Setting("EVENT_QUEUE_TTL", 5.0, optional(SECONDS), "How long events wait for a monitor."),
        Setting("EVENT_QUEUE_EXPIRES", 60.0, optional(SECONDS), "How long a monitor's queue is kept."),
    ),
    "Beat": (
        Setting("BEAT_SCHEDULE", EMPTY, OPTIONS_BY_NAME, "Periodic tasks, by name of the entry."),
        Setting(
            "BEAT_MAX_LOOP_INTERVAL",
            0,
            SECONDS,
            "The longest beat sleeps before it looks again. 0: the scheduler's own.",
        ),
    ),
}

#: The same by name.
DEFAULTS: dict[str, Setting] = {setting.name: setting for group in GROUPS.values() for setting in group}
