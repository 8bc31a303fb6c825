"""What the stores at Amazon's services share: clients, one for each process, and errors.

Credentials and an address come in; what the service answers leaves. boto3 is the client
(`pip install djqueue[s3]` or `djqueue[dynamodb]`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError as missing:
    raise ImportError("boto3 is not installed: pip install djqueue[s3], or djqueue[dynamodb].") from missing

from djqueue.exceptions import ImproperlyConfigured
from djqueue_results.backends.keyvalue.contract import KeyValueError, TooLarge, digest
from djqueue_results.backends.keyvalue.objects import AT_ONCE, LONGEST_ID, OfThisProcess

#: seconds, and attempts in all
PATIENCE = Config(
    connect_timeout=5,
    read_timeout=15,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=AT_ONCE,
    # Servers of other makes do not know the checksums that S3 takes besides.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)


class Client(OfThisProcess):
    """A client of one service; `options` are those of boto3's session and client."""

    def __init__(self, service: str, **options: Any) -> None:
        super().__init__(self._open)
        self._service = service
        self._options = options
        self()  # what is wrong with the settings is said now

    def _open(self) -> Any:
        endpoint = self._options.get("endpoint_url")
        given = {name: value for name, value in self._options.items() if name != "endpoint_url"}
        if bool(given.get("aws_access_key_id")) != bool(given.get("aws_secret_access_key")):
            raise ImproperlyConfigured(
                f"Results in {self._service} have a key without a secret, or the other way round: give both, "
                "or neither and let boto3 look for them."
            )
        try:
            session = boto3.Session(**given)
            if session.get_credentials() is None:
                raise ImproperlyConfigured(
                    f"No credentials were found for results in {self._service}: neither in the settings nor "
                    "where boto3 looks (AWS_ACCESS_KEY_ID, ~/.aws, the machine's role)."
                )
            return session.client(self._service, endpoint_url=endpoint, config=PATIENCE)
        except (BotoCoreError, ValueError) as error:
            raise ImproperlyConfigured(
                f"The settings of results in {self._service} are wrong: {error}"
            ) from error


def code_of(error: ClientError) -> str:
    """Return what the service calls the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def own_errors() -> Iterator[None]:
    """Let what the service or the way to it raises be KeyValueError, or TooLarge."""
    try:
        yield
    except ClientError as error:
        said = f"{code_of(error)}: {error.response.get('Error', {}).get('Message', '')}"
        if code_of(error) == "EntityTooLarge" or "exceeded the maximum allowed size" in said:
            raise TooLarge(said) from error
        raise KeyValueError(said) from error
    except BotoCoreError as error:
        raise KeyValueError(str(error)) from error


def named(task_id: str) -> str:
    """Return the id as it stands in a key: itself, or a digest of what is long or would not travel well."""
    is_plain = task_id.isprintable() and ".." not in task_id and "//" not in task_id
    return task_id if is_plain and len(task_id.encode()) <= LONGEST_ID else digest(task_id)
