"""The house rules, enforced: floors, fences, state, sizes, names and docstrings of every file.

The ground plan and the named exceptions stand in the tables below, each exception with its reason; the
lists of exceptions only shrink. All violations are shown in one message. The rules themselves are tested
on small invented houses at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.house import imports, shape
from tests.support.house.sources import Source, read

ROOT = Path(__file__).resolve().parents[2]

SUITE = ["djqueue", "djqueue_results", "djqueue_beat"]
AROUND = ["tests", "example_project", "benchmarks", "docs", "manage.py"]

FLOORS = {
    "djqueue.core": 0,
    "djqueue.states": 0,
    "djqueue.exceptions": 0,
    "djqueue.signals": 0,
    "djqueue.conf": 0,
    "djqueue.log": 0,
    "djqueue.schedules": 0,
    "djqueue.messaging": 1,
    # The database transport's tables; Django looks for them under this name.
    "djqueue.models": 1,
    "djqueue.result": 2,
    "djqueue.canvas": 3,
    "djqueue.tasks": 4,
    "djqueue.worker": 5,
    "djqueue.contrib": 6,
    "djqueue.testing": 6,
    "djqueue.management": 6,
    "djqueue.migrations": 6,
    "djqueue.admin": 6,
    "djqueue.apps": 6,
    "djqueue.checks": 6,
    "djqueue.door": 6,
    "djqueue": 6,
}

PUBLIC = (
    "djqueue",
    "djqueue.states",
    "djqueue.exceptions",
    "djqueue.signals",
    "djqueue.conf",
    "djqueue.log",
    "djqueue.schedules",
)
#: What each package may import of the others; the longest entry counts.
OPEN = {
    "djqueue": (),
    "djqueue_results": (
        *PUBLIC,
        "djqueue.core",
        "djqueue.result",
        # The Redis store shares connections, their options and scripts with the Redis broker;
        "djqueue.messaging.transports.redis",
        "djqueue.messaging.transports.idle",
        # the ORM store those that listen on PostgreSQL, and callbacks of commits, with the database broker;
        "djqueue.messaging.transports.database.postgresql",
        "djqueue.messaging.transports.database.sessions",
        "djqueue.messaging.commits",
        "djqueue.messaging.log_lines",
        # results of the rpc store are messages.
        "djqueue.messaging.contract",
        "djqueue.messaging.delivery",
        "djqueue.messaging.replies",
        # Addresses are shown without their passwords.
        "djqueue.messaging.urls",
    ),
    "djqueue_beat": (*PUBLIC, "djqueue.core"),
    "example_project": (*PUBLIC, "djqueue_results.api.urls", "djqueue_beat.models"),
}

#: "module:imported name" → why it may stand inside a function.
IMPORTS_IN_FUNCTIONS = {
    # A script, not a module: it sets Django up first.
    "tests.contracts.sources.holder:djqueue.messaging.brokers": "needs the apps",
    "tests.contracts.sources.holder:djqueue.messaging.startboard.StartBoard": "needs the apps",
}

#: Third-party package → where it may be imported.
FENCES = {
    "celery": (),
    "kombu": ("djqueue/messaging/*.py", "djqueue/core/serialization.py"),
    "redis": ("djqueue/messaging/transports/redis/*.py", "djqueue_results/backends/redis.py"),
    "billiard": ("djqueue/worker/pools/prefork/*.py",),
    "sqlalchemy": ("djqueue_results/backends/sql/*.py",),
    "azure": ("djqueue_results/backends/keyvalue/azure.py",),
    "google": ("djqueue_results/backends/keyvalue/google_storage.py",),
    "boto3": ("djqueue_results/backends/keyvalue/aws.py",),
    "botocore": (
        "djqueue_results/backends/keyvalue/aws.py",
        "djqueue_results/backends/keyvalue/s3.py",
        "djqueue_results/backends/keyvalue/dynamodb.py",
    ),
    "pymongo": ("djqueue_results/backends/mongodb/*.py",),
    "bson": ("djqueue_results/backends/mongodb/*.py",),
    "rest_framework": ("*/api/*.py",),
    "django.db": (
        "*/models.py",
        "*/models/*.py",
        "*/querysets.py",
        "*/migrations/*.py",
        "*/admin.py",
        "djqueue/messaging/tables/*.py",
        "djqueue/messaging/transports/database/*.py",
        "djqueue/messaging/departures.py",
        "djqueue/tasks/unit_of_work.py",
        "djqueue_results/backends/database.py",
        "djqueue_results/backends/database_groups.py",
        "djqueue_results/backends/database_waking.py",
        "djqueue_results/backends/statements.py",
        "djqueue_beat/store.py",
        "djqueue_beat/lease.py",
    ),
    # Listening to what happens to rows is not reading or writing them.
    "django.db.models.signals": ("*.py",),
}

#: Module → the state it keeps. One fixture in tests/conftest.py resets them all.
STATE = {
    "djqueue.conf": "the settings",
    "djqueue.core.registry": "the registry",
    "djqueue.core.requests": "the ContextVar of the running request",
    "djqueue.messaging.brokers": "the brokers",
    "djqueue.result.backends": "the result backends",
}

#: "module:function" → why its cached answers can never become wrong.
CACHES = {
    "djqueue.messaging.transports.amqp.codec:_key": "of the key, which is an argument",
    "djqueue.messaging.transports.amqp.codec:name_of": "of the bytes, which are an argument",
    "djqueue.core.names:host": "a host keeps its name while a process lives",
    "djqueue.core.names:_origin": "of the pid, which is an argument",
    "djqueue.core.names:_reply_address": "of the pid, which is an argument",
    "djqueue.tasks.unit_of_work:_keeps_connections": "of the name of a class, which is an argument",
    "djqueue.core.serialization:content_types": "of the arguments; kombu's serializers are fixed at import",
}

#: What is larger than the house likes → its size now. Each with the reason; entries only shrink.
LARGE: dict[str, int] = {}
#: A file of tests is a list, read in parts; it may be longer.
TEST_LINES = 600

#: Files of tests that may sleep → why.
SLEEPERS = {
    "tests/support/waiting.py": "this is where all waiting is done",
    "tests/contracts/pools/deeds.py": "so are those that pools run",
    "tests/project/tasks.py": "tasks that take a while are what is tested",
    "tests/wire/stock.py": "so are those of the stock worker",
}


@pytest.fixture(scope="module")
def suite() -> list[Source]:
    return [source for source in read(ROOT, SUITE) if "migrations" not in source.path.parts]


@pytest.fixture(scope="module")
def around() -> list[Source]:
    return [source for source in read(ROOT, AROUND) if "migrations" not in source.path.parts]


def is_test(source: Source) -> bool:
    return source.path.name.startswith("test_") or source.path.name == "conftest.py"


def violations(suite: list[Source], around: list[Source]) -> Iterator[str]:
    """Yield everything that is not as the house wants it."""
    everything = suite + around
    yield from imports.upward(suite, FLOORS, "djqueue")
    yield from imports.out_of_bounds(everything, OPEN, SUITE)
    yield from imports.rings(suite)
    yield from imports.inside_functions(everything, IMPORTS_IN_FUNCTIONS)
    yield from imports.over_the_fence(suite, FENCES)
    yield from shape.state(suite, STATE, CACHES)
    rooms = [source for source in everything if not is_test(source)]
    tests = [source for source in around if is_test(source)]
    yield from shape.sizes(rooms, LARGE)
    yield from shape.sizes(tests, {}, file_lines=TEST_LINES)
    yield from shape.names(everything)
    yield from shape.contracts(suite)
    yield from shape.docstrings(rooms)
    # What a test file does, the names of its tests say; a line is enough.
    yield from shape.docstrings(tests, range(1, 9))
    yield from shape.packages(suite)
    yield from shape.sleeps([source for source in around if source.name.startswith("tests.")], SLEEPERS)


def test_the_house_is_in_order(suite: list[Source], around: list[Source]) -> None:
    found = sorted(violations(suite, around))
    lines = "\n".join(f"  {line}" for line in found)
    assert not found, f"{len(found)} rules of the house are broken:\n{lines}"


# The rules themselves, on invented houses


def house(root: Path, **files: str) -> list[Source]:
    """Write the files (`a__b` is a/b.py, `a__` is a/__init__.py) and read them."""
    for name, text in files.items():
        *directories, module = name.split("__")
        path = root.joinpath(*directories, f"{module or '__init__'}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read(root, sorted({name.split("__")[0] for name in files}))


def test_an_import_upwards_is_found_in_functions_and_under_type_checking(tmp_path: Path) -> None:
    sources = house(
        tmp_path,
        q__low="def f():\n    from q.high import x\nif TYPE_CHECKING:\n    import q.high",
        q__high="import q.low",
    )
    found = list(imports.upward(sources, {"q.low": 0, "q.high": 1}, "q"))
    assert len(found) == 2
    assert found[0] == "q/low.py:2: floor 0 imports q.high of floor 1; imports run downwards only"


def test_the_roof_is_above_every_floor_and_vouches_for_nobody(tmp_path: Path) -> None:
    sources = house(tmp_path, q__="", q__low="from q import app", q__lost="")
    found = list(imports.upward(sources, {"q.low": 0, "q": 6}, "q"))
    assert [line.split(";")[0] for line in found] == [
        "q/lost.py: no floor is known for q.lost",
        "q/low.py:1: floor 0 imports q of floor 6",
    ]


def test_relative_imports_are_understood(tmp_path: Path) -> None:
    sources = house(tmp_path, q__a__one="from ..b import two", q__b__two="", q__b__="")
    assert [imported.target for imported in sources[0].imports] == ["q.b.two"]


def test_a_ring_is_found_however_long(tmp_path: Path) -> None:
    sources = house(tmp_path, q__a="import q.b", q__b="import q.c", q__c="import q.a", q__d="import q.a")
    assert list(imports.rings(sources)) == ["a ring of imports: q.a <-> q.b <-> q.c"]


def test_an_app_sees_only_what_is_open_to_it(tmp_path: Path) -> None:
    sources = house(
        tmp_path,
        app__one="import q\nimport q.core.x\nimport q.worker",
        q__core__x="",
        q__worker="",
        q__="",
    )
    found = list(imports.out_of_bounds(sources, {"app": ("q", "q.core")}, ("q", "app")))
    assert found == ["app/one.py:3: app imports q.worker; open to it: q, q.core"]


def test_a_fence_covers_submodules_and_names_the_place(tmp_path: Path) -> None:
    sources = house(tmp_path, q__in="from wire import x", q__out="import wire.deep")
    found = list(imports.over_the_fence(sources, {"wire": ("q/in.py",)}))
    assert found == ["q/out.py:1: imports wire.deep; wire belongs in q/in.py"]


def test_an_import_in_a_function_needs_a_name_on_the_list_and_the_list_only_shrinks(tmp_path: Path) -> None:
    sources = house(tmp_path, q__a="def f():\n    import json\n    import zlib")
    found = list(imports.inside_functions(sources, {"q.a:json": "why not", "q.gone:x": "was once"}))
    assert [line.split(";")[0] for line in found] == [
        "q/a.py:3: f() imports zlib",
        "the exception for q.gone:x is no longer needed: take it off the list",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "seen = []",
        "cache: dict = dict()",
        "TABLE = {}\ndef f(): TABLE[1] = 2",
        "TABLE = {}\ndef f(): TABLE.update(a=1)",
        "x = 1\ndef f():\n    global x\n    x = 2",
        "from functools import cache\n@cache\ndef f(): ...",
        "lock = threading.Lock()",
    ],
)
def test_state_is_found_wherever_it_hides(tmp_path: Path, text: str) -> None:
    assert len(list(shape.state(house(tmp_path, q__a=text), {}, {}))) == 1
    assert not list(shape.state(house(tmp_path, q__a=text), {"q.a": "on purpose"}, {}))


def test_a_cache_that_cannot_become_wrong_is_named(tmp_path: Path) -> None:
    sources = house(tmp_path, q__a="@lru_cache(maxsize=None)\ndef f(): ...")
    assert not list(shape.state(sources, {}, {"q.a:f": "pure"}))
    assert len(list(shape.state(sources, {}, {}))) == 1


def test_a_table_in_capitals_that_nobody_changes_is_no_state(tmp_path: Path) -> None:
    assert not list(shape.state(house(tmp_path, q__a="TABLE = {1: 2}\ndef f(): return TABLE[1]"), {}, {}))


def test_what_is_large_needs_an_entry_and_what_has_shrunk_must_give_it_up(tmp_path: Path) -> None:
    sources = house(tmp_path, q__a="\n" * 410)
    assert list(shape.sizes(sources, {})) == ["q/a.py: 410 lines, at most 400"]
    assert not list(shape.sizes(sources, {"q/a.py": 410}))
    assert "lower or remove it" in next(shape.sizes(sources, {"q/a.py": 500}))


def test_many_methods_and_parameters_are_counted(tmp_path: Path) -> None:
    methods = "".join(f"    def m{number}(self): ...\n" for number in range(16))
    text = f"class C:\n    def __init__(self, a, b, c, d, e, f, g, *, h): ...\n{methods}"
    assert sorted(shape.sizes(house(tmp_path, q__a=text), {})) == [
        "q/a.py:C.__init__ parameters: 8 parameters, at most 7",
        "q/a.py:C: 16 public methods, at most 15",
    ]


def test_names_that_say_nothing_and_misplaced_contracts_are_refused(tmp_path: Path) -> None:
    sources = house(tmp_path, q__utils="", q__seam="class Seam(ABC): ...", q__contract="class Seam(ABC): ...")
    assert [line.split(":")[0] for line in shape.names(sources)] == ["q/utils.py"]
    assert [line.split(":")[0] for line in shape.contracts(sources)] == ["q/seam.py"]


def test_a_file_opens_with_a_docstring_of_three_lines(tmp_path: Path) -> None:
    sources = house(
        tmp_path,
        q__="",
        q__none="x = 1",
        q__one='"""One."""',
        q__three='"""One\n\nThree.\n"""',
        r__='"""R."""',
    )
    assert [line.split(":")[0] for line in shape.docstrings(sources)] == ["q/none.py", "q/one.py"]
    assert [line.split(":")[0] for line in shape.docstrings(sources, range(1, 9))] == ["q/none.py"]


def test_a_sleep_in_a_test_is_found(tmp_path: Path) -> None:
    found = list(shape.sleeps(house(tmp_path, tests__a="import time\ntime.sleep(1)"), {}))
    assert found == ["tests/a.py:2: sleeps; use tests.support.waiting.wait_until"]


def test_a_directory_without_an_init_is_found(tmp_path: Path) -> None:
    assert list(shape.packages(house(tmp_path, q__a="", q__="", q__deep__b=""))) == [
        "q/deep/ has no __init__.py"
    ]
