"""Results as items of a DynamoDB table, as Celery keeps them: `dynamodb://key:secret@region/table?ttl_seconds=…`.

An item is replaced only on the condition that it still holds what was looked at. The table is made when it is
missing; with `ttl_seconds` the service deletes items when their time is over. Chords are counted here, too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from botocore.exceptions import ClientError

from djqueue.conf import settings
from djqueue.exceptions import ImproperlyConfigured
from djqueue.messaging.urls import masked
from djqueue_results.backends.keyvalue import aws
from djqueue_results.backends.keyvalue.chords import CountingStore
from djqueue_results.backends.keyvalue.contract import Decide
from djqueue_results.backends.keyvalue.objects import AT_ONCE

TABLE = "celery"
#: what a machine of one's own is said to be in
LOCAL_REGION = "us-east-1"
#: keys in one request to read
READ_AT_ONCE = 100
_OPTIONS = ("read", "write", "ttl_seconds")
_NAMES = {"#result": "result"}


class DynamoBackend(CountingStore):
    """Keeps documents in a table, and counts chords there."""

    compresses = True
    expires_by_itself = True
    at_once = AT_ONCE

    def __init__(self, url: str = "", **options: Any) -> None:
        super().__init__(url, **options)
        parts = urlsplit(url)
        self._table = parts.path.strip("/") or TABLE
        self._numbers = _numbers(parts.query)
        region = parts.hostname
        endpoint = None
        if region and (region == "localhost" or _is_ip(region)):
            endpoint, region = f"http://{parts.netloc.rpartition('@')[2]}", LOCAL_REGION
        self._client = aws.Client(
            "dynamodb",
            aws_access_key_id=unquote(parts.username or "") or None,
            aws_secret_access_key=unquote(parts.password or "") or None,
            region_name=region,
            endpoint_url=settings.DYNAMODB_ENDPOINT_URL or endpoint,
        )
        self._is_prepared = False

    def as_uri(self) -> str:
        """Return the address with the secret masked."""
        return masked(self.url)

    def named(self, task_id: str) -> str:
        """Return the id as it stands in a key."""
        return aws.named(task_id)

    def read(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        found = {}
        by_id = {_id(key): key for key in keys}
        with aws.own_errors():
            self._prepare()
            for start in range(0, len(keys), READ_AT_ONCE):
                some = [_key(key) for key in keys[start : start + READ_AT_ONCE]]
                wanted: Any = {self._table: {"Keys": some, "ConsistentRead": True}}
                while wanted:  # the service answers with 16 MB at the most
                    said = self._client().batch_get_item(RequestItems=wanted)
                    for item in said["Responses"].get(self._table, ()):
                        if (value := _value(item)) is not None and not _is_over(item):
                            found[by_id[item["id"]["S"]]] = value
                    wanted = said.get("UnprocessedKeys")
        return found

    def change(self, key: str, decide: Decide, seconds: int) -> None:
        with aws.own_errors():
            self._prepare()
            while True:
                said = self._client().get_item(TableName=self._table, Key=_key(key), ConsistentRead=True)
                item = said.get("Item")
                kept = _value(item) if item else None
                value = decide(None if item and _is_over(item) else kept)
                if value is None:
                    return
                item = {**_key(key), "result": {"B": value}, **self._times()}
                if seconds and key.startswith(self._chord_prefix):  # the claim of one who may die
                    item["djq_until"] = {"N": str(time.time() + seconds)}
                if self._put(item, kept):
                    return

    def remove(self, keys: Sequence[str]) -> None:
        with aws.own_errors():
            self._prepare()
            for key in keys:
                self._client().delete_item(TableName=self._table, Key=_key(key))

    def clean_up(self) -> int:
        """Return 0: the service deletes what is over, if `ttl_seconds` is given; else nobody does."""
        return 0

    def close(self) -> None:
        """Close idle connections."""
        self._client.close()

    def begin(self, key: str, seconds: int) -> None:
        item = {**_key(key), "chord_count": {"N": "0"}, **self._times()}
        with aws.own_errors():
            self._prepare()
            self._conditionally("put_item", Item=item, ConditionExpression="attribute_not_exists(id)")

    def increase(self, key: str, by: int) -> int | None:
        with aws.own_errors():
            self._prepare()
            said = self._conditionally(
                "update_item",
                Key=_key(key),
                UpdateExpression="SET chord_count = chord_count + :by",
                ConditionExpression="attribute_exists(chord_count)",
                ExpressionAttributeValues={":by": {"N": str(by)}},
                ReturnValues="ALL_NEW",
            )
        return None if said is None else int(said["Attributes"]["chord_count"]["N"])

    def prolong(self, keys: Sequence[str], seconds: int) -> None:
        times = self._times()
        if "ttl" not in times:
            return
        with aws.own_errors():
            for key in keys:
                self._conditionally(
                    "update_item",
                    Key=_key(key),
                    UpdateExpression="SET #ttl = :ttl",
                    ConditionExpression="attribute_exists(id)",
                    ExpressionAttributeNames={"#ttl": "ttl"},
                    ExpressionAttributeValues={":ttl": times["ttl"]},
                )

    def _times(self) -> dict[str, Any]:
        """Return the attributes of an item that tell when it was written and when its time is over."""
        now = time.time()
        seconds = self._numbers.get("ttl_seconds", -1)
        over = {"ttl": {"N": str(int(now + seconds))}} if seconds >= 0 else {}
        return {"timestamp": {"N": str(now)}, **over}

    def _put(self, item: dict[str, Any], kept: bytes | None) -> bool:
        """Write the item in place of what was kept; return False if that is something else by now."""
        condition: dict[str, Any] = {
            "ConditionExpression": "attribute_not_exists(#result)",
            "ExpressionAttributeNames": _NAMES,
        }
        if kept is not None:
            condition["ConditionExpression"] = "#result = :kept"
            condition["ExpressionAttributeValues"] = {":kept": {"B": kept}}
        return self._conditionally("put_item", Item=item, **condition) is not None

    def _conditionally(self, verb: str, **words: Any) -> Any:
        """Do something to an item, and return the answer; None if its condition does not hold."""
        try:
            return getattr(self._client(), verb)(TableName=self._table, **words)
        except ClientError as error:
            if aws.code_of(error) == "ConditionalCheckFailedException":
                return None
            raise

    def _prepare(self) -> None:
        """Make the table if it is missing, and see to its items' lifetimes."""
        if self._is_prepared:
            return
        client = self._client()
        try:
            client.describe_table(TableName=self._table)
        except ClientError as error:
            if aws.code_of(error) != "ResourceNotFoundException":
                raise
            self._make()
        if "ttl_seconds" in self._numbers:
            self._see_to_lifetimes(is_wanted=self._numbers["ttl_seconds"] >= 0)
        self._is_prepared = True

    def _make(self) -> None:
        client = self._client()
        try:
            client.create_table(
                TableName=self._table,
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                ProvisionedThroughput={
                    "ReadCapacityUnits": self._numbers.get("read", 1),
                    "WriteCapacityUnits": self._numbers.get("write", 1),
                },
            )
        except ClientError as error:
            if aws.code_of(error) != "ResourceInUseException":  # else somebody was faster
                raise
        client.get_waiter("table_exists").wait(
            TableName=self._table, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )

    def _see_to_lifetimes(self, *, is_wanted: bool) -> None:
        client = self._client()
        said = client.describe_time_to_live(TableName=self._table)["TimeToLiveDescription"]
        is_on = said["TimeToLiveStatus"] in ("ENABLED", "ENABLING")
        attribute = said.get("AttributeName", "ttl")
        if is_on and is_wanted and attribute != "ttl":
            raise ImproperlyConfigured(
                f"The items of the table {self._table!r} live as long as {attribute!r} says; {self.as_uri()} "
                "needs 'ttl' to say so."
            )
        if is_on != is_wanted:
            client.update_time_to_live(
                TableName=self._table,
                TimeToLiveSpecification={"Enabled": is_wanted, "AttributeName": attribute},
            )


def _id(key: str) -> str:
    """Return what Celery calls the item: its keys are bytes, and it shows them as Python does (`b'…'`)."""
    return str(key.encode())


def _key(key: str) -> dict[str, Any]:
    return {"id": {"S": _id(key)}}


def _value(item: Mapping[str, Any]) -> bytes | None:
    found = item.get("result", {}).get("B")
    return None if found is None else bytes(found)


def _is_over(item: Mapping[str, Any]) -> bool:
    """Return whether the item's time is over: the service may take days to delete it."""
    ends = [float(item[name].get("N", "inf")) for name in ("ttl", "djq_until") if name in item]
    return bool(ends) and min(ends) < time.time()


def _numbers(query: str) -> dict[str, int]:
    found = {}
    for name, text in parse_qsl(query):
        if name not in _OPTIONS:
            raise ImproperlyConfigured(
                f"RESULT_BACKEND has the option {name!r}, and DynamoDB's are {', '.join(_OPTIONS)}."
            )
        try:
            found[name] = int(text)
        except ValueError:
            raise ImproperlyConfigured(
                f"RESULT_BACKEND has {name}={text!r}, which is no whole number."
            ) from None
    return found


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
