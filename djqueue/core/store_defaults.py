"""Settings of result stores on servers of their own: part of the group Results.

The page in `defaults.py` is where everybody looks settings up; names are Celery's in upper case.
"""

from __future__ import annotations

from types import MappingProxyType

from djqueue.core.broker_defaults import EMPTY, Setting
from djqueue.core.kinds import (
    BOOLEAN,
    CALLBACK,
    LIMIT,
    MAPPING,
    PROVIDER,
    TEXT,
    TLS,
    optional,
    seconds,
    whole,
)

SQL = (
    Setting(
        "DATABASE_URL",
        None,
        optional(TEXT),
        "With the store `database`: SQLAlchemy's URL, which `db+<URL>` has in itself.",
    ),
    Setting(
        "DATABASE_ENGINE_OPTIONS",
        MappingProxyType({"pool_pre_ping": True, "pool_recycle": 3600}),
        MAPPING,
        "With the store `db+…`: what SQLAlchemy's `create_engine` is told.",
    ),
    Setting(
        "DATABASE_ENGINE_CALLBACK",
        None,
        optional(CALLBACK),
        "With the store `db+…`: called with each engine that is made.",
    ),
    Setting(
        "DATABASE_SHORT_LIVED_SESSIONS",
        False,
        BOOLEAN,
        "With the store `db+…`: a connection is closed when it has been used once.",
    ),
    Setting(
        "DATABASE_TABLE_SCHEMAS",
        EMPTY,
        MAPPING,
        "With the store `db+…`: the schemas of the tables `task` and `group`.",
    ),
    Setting(
        "DATABASE_TABLE_NAMES",
        EMPTY,
        MAPPING,
        "With the store `db+…`: the names of the tables `task` and `group` (`celery_taskmeta`, "
        "`celery_tasksetmeta`).",
    ),
    Setting(
        "DATABASE_CREATE_TABLES_AT_SETUP",
        True,
        BOOLEAN,
        "With the store `db+…`: missing tables and columns are made when a worker or a check opens the "
        "store. False: when it is first used.",
    ),
)

REDIS = (
    Setting(
        "REDIS_HOST",
        "localhost",
        TEXT,
        "With the store `redis://`, whose URL names no host: where it is. What the URL says counts more.",
    ),
    Setting("REDIS_PORT", None, optional(whole(1, 65535)), "Its port, 6379 if nobody says another one."),
    Setting("REDIS_DB", 0, whole(0), "The number of its database."),
    Setting("REDIS_USERNAME", None, optional(TEXT), "The user, with any URL of a Redis that names none."),
    Setting("REDIS_PASSWORD", None, optional(TEXT), "The password, with any URL of a Redis that has none."),
    Setting(
        "REDIS_BACKEND_CREDENTIAL_PROVIDER",
        None,
        optional(PROVIDER),
        "What gives user and password whenever a connection is made: redis-py's `CredentialProvider`.",
    ),
    Setting(
        "REDIS_BACKEND_USE_SSL",
        False,
        TLS,
        "With results in Redis: TLS, with what `ssl` takes, as BROKER_USE_SSL. `rediss://` alone is True.",
    ),
    Setting(
        "REDIS_MAX_CONNECTIONS",
        None,
        optional(whole(1)),
        "With results in Redis: how many connections a process uses at once to read and write; others wait "
        "for one. Each thread that waits for a result has one of its own besides.",
        "connections",
    ),
    Setting(
        "REDIS_SOCKET_TIMEOUT",
        5.0,
        LIMIT,
        "With results in Redis: how long to wait for an answer. 120 in Celery.",
    ),
    Setting("REDIS_SOCKET_CONNECT_TIMEOUT", 3.0, LIMIT, "How long to wait for a connection to it."),
    Setting("REDIS_SOCKET_KEEPALIVE", True, BOOLEAN, "Let the system notice dead connections to it."),
    Setting("REDIS_CLIENT_NAME", None, optional(TEXT), "What CLIENT LIST calls connections to it."),
)

READING = (
    Setting(
        "RESULT_CACHE_MAX",
        -1,
        whole(-1),
        "How many results of tasks that returned a process remembers once it has read them, whoever asks for "
        "them next. 0: all; -1: none.",
        "results",
    ),
    Setting(
        "RESULT_BACKEND_ALWAYS_RETRY",
        False,
        BOOLEAN,
        "Who reads results asks again while the store cannot be read, instead of raising. Workers always do "
        "so with what they have to store.",
    ),
    Setting(
        "RESULT_BACKEND_MAX_RETRIES",
        None,
        optional(whole(0)),
        "How often to ask again before the error is raised all the same. None: as often as it takes.",
    ),
    Setting(
        "RESULT_BACKEND_BASE_SLEEP_BETWEEN_RETRIES_MS",
        10,
        whole(0),
        "The longest first pause before asking again; each further one may be twice as long.",
        "milliseconds",
    ),
    Setting(
        "RESULT_BACKEND_MAX_SLEEP_BETWEEN_RETRIES_MS",
        10_000,
        whole(0),
        "The longest of these pauses.",
        "milliseconds",
    ),
)

AMAZON = (
    Setting("S3_BUCKET", None, optional(TEXT), "With the store `s3://`: the bucket."),
    Setting(
        "S3_BASE_PATH",
        None,
        optional(TEXT),
        "With the store `s3://`: what the keys of objects begin with, such as `results/`.",
    ),
    Setting("S3_REGION", None, optional(TEXT), "With the store `s3://`: the region of the bucket."),
    Setting(
        "S3_ACCESS_KEY_ID",
        None,
        optional(TEXT),
        "With the store `s3://`: the key. None: as boto3 finds it (environment, files, role).",
    ),
    Setting("S3_SECRET_ACCESS_KEY", None, optional(TEXT), "The secret that belongs to S3_ACCESS_KEY_ID."),
    Setting(
        "S3_ENDPOINT_URL",
        None,
        optional(TEXT),
        "With the store `s3://`: the address of a server that is not Amazon's.",
    ),
    Setting(
        "DYNAMODB_ENDPOINT_URL",
        None,
        optional(TEXT),
        "With the store `dynamodb://…`: the address of a server that is not Amazon's.",
    ),
)

AZURE = (
    Setting(
        "AZUREBLOCKBLOB_CONTAINER_NAME",
        "celery",
        TEXT,
        "With the store `azureblockblob://…`: the container, which is made when it is missing.",
    ),
    Setting(
        "AZUREBLOCKBLOB_BASE_PATH",
        None,
        optional(TEXT),
        "With the store `azureblockblob://…`: what the names of blobs begin with, such as `results/`.",
    ),
    Setting(
        "AZUREBLOCKBLOB_RETRY_MAX_ATTEMPTS",
        3,
        whole(0),
        "With the store `azureblockblob://…`: how often a request that failed is made again before the "
        "store counts as away.",
    ),
    Setting(
        "AZUREBLOCKBLOB_RETRY_INITIAL_BACKOFF_SEC",
        2,
        whole(0),
        "What every pause before that begins with, give or take a second.",
        "seconds",
    ),
    Setting(
        "AZUREBLOCKBLOB_RETRY_INCREMENT_BASE",
        2,
        whole(0),
        "What grows in these pauses: this number, its square, its cube and so on are added to them.",
        "seconds",
    ),
    Setting(
        "AZUREBLOCKBLOB_CONNECTION_TIMEOUT",
        20,
        whole(1),
        "With the store `azureblockblob://…`: how long to wait for a connection.",
        "seconds",
    ),
    Setting("AZUREBLOCKBLOB_READ_TIMEOUT", 120, whole(1), "How long to wait for an answer.", "seconds"),
)

MONGODB = (
    Setting(
        "MONGODB_BACKEND_SETTINGS",
        EMPTY,
        MAPPING,
        "With the store `mongodb://…`: `host`, `port`, `user`, `password`, `database`, "
        "`taskmeta_collection`, `groupmeta_collection`, `max_pool_size`, and as `options` those of PyMongo's "
        "client. They count more than the URL.",
    ),
)

GOOGLE = (
    Setting(
        "GCS_BUCKET",
        None,
        optional(TEXT),
        "With the store `gs://`, whose URL names no bucket: the bucket. What the URL says counts more, here "
        "and with the settings that follow.",
    ),
    Setting(
        "GCS_PROJECT",
        None,
        optional(TEXT),
        "With the store `gs://…`: the project of the bucket, which `?gcs_project=…` in the URL may name.",
    ),
    Setting(
        "GCS_BASE_PATH",
        None,
        optional(TEXT),
        "With the store `gs://…`: the path in the bucket, such as `results`, which the URL may have.",
    ),
    Setting(
        "GCS_TTL",
        0,
        seconds(),
        "With the store `gs://…`: how long results are to be kept by the bucket's lifecycle rule, which must "
        "be there. 0: until `celery.backend_cleanup` deletes them. Or `?gcs_ttl=…` in the URL.",
        "seconds",
    ),
)

STORES = (*READING, *SQL, *REDIS, *AMAZON, *AZURE, *GOOGLE, *MONGODB)
