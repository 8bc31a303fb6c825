"""JSON is kombu's to the byte and carries what Django's encoder does; what is received is bounded."""

from __future__ import annotations

import bz2
import json
import lzma
import math
import os
import zlib
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import kombu.serialization
import pytest
from django.contrib.auth.models import User
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st
from kombu import compression as kombu_compression
from kombu.utils import json as kombu_json

from djqueue.core import inflation, serialization
from djqueue.core.serialization import compress, decompress, dumps, loads, loads_json
from djqueue.exceptions import ContentDisallowed, DecodeError, EncodeError, SerializerNotInstalled

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=30,
)


@given(JSON_VALUES)
def test_json_is_kombus_to_the_byte_and_comes_back(value: Any) -> None:
    content_type, encoding, body = dumps(value)
    assert (content_type, encoding) == ("application/json", "utf-8")
    assert body == kombu_json.dumps(value).encode()
    assert loads(body, content_type, encoding) == kombu_json.loads(body)
    assert loads(body, content_type, encoding) == value


@pytest.mark.parametrize(
    "value",
    [
        timedelta(days=1, seconds=2, microseconds=3),
        -timedelta(minutes=5),
        gettext_lazy("Save"),
        datetime(2020, 1, 1, tzinfo=UTC),
        datetime(2020, 1, 1, 2, 3, 4, 5),
        date(2020, 2, 29),
        time(1, 2, 3),
        Decimal("1.10"),
        uuid4(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_everything_djangos_encoder_carries_is_carried(value: Any) -> None:
    json.dumps(value, cls=DjangoJSONEncoder)
    body = dumps([value])[2]
    assert loads(body, "application/json")


def test_timedeltas_and_lazy_texts_are_written_as_django_writes_them() -> None:
    values = [timedelta(days=1, seconds=2, microseconds=3), gettext_lazy("Save")]
    assert dumps(values)[2] == json.dumps(values, cls=DjangoJSONEncoder).encode()


def test_an_object_with_its_own_json_form_is_asked_for_it() -> None:
    class Money:
        def __json__(self) -> dict[str, str]:
            return {"amount": "1.10"}

    assert dumps(Money())[2] == b'{"amount": "1.10"}'


def test_a_type_registered_with_kombu_is_carried_both_ways() -> None:
    class Point(complex):
        pass

    kombu_json.register_type(Point, "point", lambda p: [p.real, p.imag], lambda pair: Point(*pair))
    try:
        assert loads(dumps([Point(1, 2)])[2], "application/json") == [Point(1, 2)]
    finally:
        del kombu_json._encoders[Point], kombu_json._decoders["point"]


def test_a_model_instance_is_refused_with_the_advice_to_pass_its_key() -> None:
    with pytest.raises(EncodeError, match=r"model User .*pass its primary key \(user\.pk\)"):
        dumps([User(pk=1)])
    with pytest.raises(TypeError, match="primary key"):
        dumps({"user": User(pk=1)})


def test_a_queryset_is_refused_with_advice_and_without_a_query() -> None:
    with pytest.raises(EncodeError, match="values_list"):
        dumps([User.objects.all()])


@pytest.mark.parametrize(
    ("value", "advice"),
    [({1, 2}, "pass a list"), (object(), "Pass plain values"), (lambda: 1, "function"), (1j, "complex")],
)
def test_what_json_cannot_carry_is_named(value: Any, advice: str) -> None:
    with pytest.raises(EncodeError, match=advice):
        dumps([value])


def test_values_that_contain_themselves_or_have_odd_keys_are_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)
    for value in (ring, {(1, 2): 3}):
        with pytest.raises(EncodeError):
            dumps(value)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(EncodeError, match="nested too deeply"):
        dumps(deep)


@pytest.mark.parametrize("serializer", ["pickle", "yaml"])
def test_other_serializers_are_kombus(serializer: str) -> None:
    value = [[1, "é"], {"k": [None]}]
    content_type, encoding, body = dumps(value, serializer)
    expected = kombu.serialization.dumps(value, serializer)
    assert (content_type, encoding) == expected[:2]
    assert body == (expected[2].encode() if isinstance(expected[2], str) else expected[2])
    assert loads(body, content_type, encoding, accept=[serializer]) == value
    assert loads(body, content_type, encoding, accept=[content_type]) == value
    assert serialization.serializer_of(content_type) == serializer


def test_an_unknown_serializer_is_named_with_those_that_exist() -> None:
    with pytest.raises(SerializerNotInstalled, match=r"no serializer 'jsn' here; there are .*json"):
        dumps(1, "jsn")


def test_what_another_serializer_cannot_carry_is_an_encode_error() -> None:
    with pytest.raises(EncodeError, match="'yaml'"):
        dumps(object(), "yaml")


@pytest.mark.parametrize(
    "content_type", ["application/x-python-serialize", "application/x-yaml", "text/html"]
)
def test_content_that_is_not_accepted_is_refused_unread(content_type: str) -> None:
    with pytest.raises(ContentDisallowed, match=content_type):
        loads(b"cos\nsystem\n(S'true'\ntR.", content_type, "binary", accept=["json"])


def test_a_mistyped_name_in_accept_is_told() -> None:
    with pytest.raises(ContentDisallowed, match="no serializer 'jsn'"):
        loads(b"1", "application/json", accept=["jsn"])


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"\xff\xfe", b"[1,]", b"nul", b'{"__type__": "nope", "__value__": 1}', b"9" * 5000),
        *(b'{"__type__": "uuid", "__value__": {"hex": "x"}}', b'{"__type__": "datetime", "__value__": 3}'),
    ],
)
def test_a_body_that_is_not_json_is_a_decode_error(body: bytes) -> None:
    with pytest.raises(DecodeError, match="cannot be read as JSON"):
        loads(body, "application/json")


def test_broken_content_of_other_types_is_a_decode_error() -> None:
    for body, content_type in (
        (b"\x80\x04garbage", "application/x-python-serialize"),
        (b"{[", "application/x-yaml"),
    ):
        with pytest.raises(DecodeError):
            loads(body, content_type, "binary", accept=None)


def test_json_as_python_writes_it_beyond_the_standard_is_read() -> None:
    found = loads(b'[NaN, Infinity, 1e400, {"a": 1, "a": 2}]', "application/json")
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, math.inf, {"a": 2}]


def test_an_escaped_type_marker_is_still_seen() -> None:
    body = b'{"\\u005f_type__": "decimal", "__value__": "1.5"}'
    assert loads_json(body) == Decimal("1.5")
    assert loads_json(b'{"__type__": "uuid", "__value__": {"hex": "%032x"}}' % 7) == UUID(int=7)


@pytest.mark.parametrize("depth", [499, 500])
def test_json_of_up_to_500_levels_is_read(depth: int) -> None:
    assert loads_json(b"[" * depth + b"]" * depth)[0]


@pytest.mark.parametrize("depth", [501, 900, 200_000])
@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}")])
def test_deeper_json_is_refused(depth: int, pair: tuple[bytes, bytes]) -> None:
    inner = b"1" if pair[0] != b"[" else b""
    with pytest.raises(DecodeError, match="more than 500 levels"):
        loads_json(pair[0] * depth + inner + pair[1] * depth)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("end", [b"", b"\\"])
def test_a_text_that_never_ends_is_not_looked_at_for_ever(end: bytes) -> None:
    with pytest.raises(DecodeError, match="cannot be read as JSON"):
        loads_json(b"[]" * 600 + b'"' + b'\\"' * 500_000 + end)


def test_brackets_in_texts_and_many_small_lists_are_no_depth() -> None:
    assert loads_json(json.dumps(["[" * 10_000, '\\"[[' * 500, [[]] * 5000]))


def test_a_body_of_more_than_64_mebibytes_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serialization, "LARGEST", 1000)
    with pytest.raises(DecodeError, match="at most 1000 are read"):
        loads(b" " * 1001, "application/json")
    with pytest.raises(DecodeError, match="at most 1000 are read"):
        decompress(b" " * 1001, "application/x-gzip")


# Compression


@pytest.mark.parametrize("name", ["zlib", "gzip", "bzip2", "lzma", "xz"])
@pytest.mark.parametrize("body", [b"", b"a", b"abc" * 100_000, os.urandom(700_000)], ids=len)
def test_what_was_compressed_comes_back(name: str, body: bytes) -> None:
    compressed, content_type = compress(body, name)
    assert kombu_compression.decompress(compressed, content_type) == body
    assert decompress(compressed, content_type) == body
    assert decompress(compressed, name) == body


def test_a_gzip_file_is_read_as_well() -> None:
    writer = zlib.compressobj(wbits=31)
    assert decompress(writer.compress(b"text") + writer.flush(), "application/x-gzip") == b"text"


BOMBS = {
    "application/x-gzip": zlib.compress(b"\0" * 50_000_000),
    "application/x-bz2": bz2.compress(b"\0" * 50_000_000),
    "application/x-lzma": lzma.compress(b"\0" * 50_000_000),
}


@pytest.mark.parametrize("content_type", BOMBS)
def test_a_bomb_is_stopped_on_the_way(content_type: str) -> None:
    with pytest.raises(DecodeError, match="inflates to more than"):
        decompress(BOMBS[content_type], content_type)


def test_a_small_body_may_inflate_as_much_as_it_likes() -> None:
    body = b"\0" * inflation.GRACE
    assert decompress(zlib.compress(body), "application/x-gzip") == body


@pytest.mark.parametrize("content_type", BOMBS)
def test_broken_and_cut_off_data_is_a_decode_error(content_type: str) -> None:
    whole = compress(os.urandom(5000), content_type)[0]
    for broken in (b"", b"garbage", whole[:-10], whole[:20]):
        with pytest.raises(DecodeError, match="cannot be decompressed"):
            decompress(broken, content_type)


def test_compressions_that_do_not_exist_are_named() -> None:
    with pytest.raises(SerializerNotInstalled, match=r"no compression 'zip' here; there are .*zlib"):
        compress(b"", "zip")
    with pytest.raises(DecodeError, match="'application/x-nope', which is not installed"):
        decompress(b"", "application/x-nope")


def test_a_compression_registered_with_kombu_is_used_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    kombu_compression.register(
        lambda body: body[::-1], lambda body: body[::-1], "application/x-mirror", ["mirror"]
    )
    try:
        assert compress(b"abc", "mirror") == (b"cba", "application/x-mirror")
        assert decompress(b"cba", "application/x-mirror") == b"abc"
        monkeypatch.setattr(serialization, "LARGEST", 5)
        with pytest.raises(DecodeError):
            decompress(b"cbacba", "application/x-mirror")
    finally:
        del kombu_compression._aliases["mirror"]
        del kombu_compression._encoders["application/x-mirror"]
        del kombu_compression._decoders["application/x-mirror"]
