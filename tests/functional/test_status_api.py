"""The status API as its visitors meet it: who sees what, and what a task looks like.

Requests go through the project's URLs and middleware; results lie in the project's store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.core import signing
from django.test import Client, RequestFactory
from drf_spectacular import generators, openapi

from djqueue import states
from djqueue.result.backends import backend
from djqueue_results.api.links import status_url
from djqueue_results.api.views import TaskView
from tests.support.results import document

pytestmark = pytest.mark.django_db

KNOWN, UNKNOWN = "known", "unknown"
ALL_FIELDS = [
    *("id", "status", "ready", "progress", "date_started", "date_done", "runtime"),
    *("name", "queue", "worker", "retries", "periodic_task_name", "root_id", "parent_id", "group_id"),
    *("children", "result", "error", "traceback", "args", "kwargs"),
]
ARGUMENTS, RESULT = ["args", "kwargs"], ["result", "error", "traceback"]
BY_LINK = ALL_FIELDS[:7]


@pytest.fixture(autouse=True)
def known(db: None) -> None:
    full = document(
        KNOWN, value={"total": 4}, name="shop.add", args="(2, 2)", kwargs="{}", worker="w", queue="q"
    )
    full.children = [[["child", None], None]]
    full.date_started = full.date_done and full.date_done - 1.5
    backend().store_many([full])


def address(task_id: str) -> str:
    return f"/api/tasks/{task_id}/"


def link(task_id: str, **options: Any) -> str:
    return status_url(RequestFactory().get("/"), task_id, **options)


def user(*permissions: str, **fields: Any) -> Client:
    """Return the client of a user with these permissions."""
    made = User.objects.create_user("somebody", **fields)
    made.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(made)
    return client


# Who sees what


def test_to_strangers_every_id_looks_alike() -> None:
    answers = [Client().get(address(task_id)) for task_id in (KNOWN, UNKNOWN)]
    assert {answer.status_code for answer in answers} <= {401, 403}
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize(
    ("permissions", "fields"),
    [
        ([], {}),
        ([], {"is_staff": True}),
        (["view_taskresult", "view_result", "view_arguments"], {}),
        (["view_result", "view_arguments"], {"is_staff": True}),
    ],
    ids=["user", "staff", "permission without staff", "result without task"],
)
def test_forbidden_tasks_look_like_unknown_ones(permissions: list[str], fields: dict[str, Any]) -> None:
    client = user(*permissions, **fields)
    answers = [client.get(address(task_id)) for task_id in (KNOWN, UNKNOWN)]
    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize(
    ("permissions", "hidden"),
    [
        ([], ARGUMENTS + RESULT),
        (["view_result"], ARGUMENTS),
        (["view_arguments"], RESULT),
        (["view_arguments", "view_result"], []),
    ],
    ids=["task", "result", "arguments", "both"],
)
def test_arguments_and_results_have_permissions_of_their_own(
    permissions: list[str], hidden: list[str]
) -> None:
    client = user("view_taskresult", *permissions, is_staff=True)
    assert list(client.get(address(KNOWN)).json()) == [name for name in ALL_FIELDS if name not in hidden]


def test_unknown_tasks_do_not_exist_for_those_who_may_see_all(admin_client: Client) -> None:
    answer = admin_client.get(address(UNKNOWN))
    assert answer.status_code == 404
    assert answer.content == user().get(address(KNOWN)).content


def test_inactive_staff_see_nothing() -> None:
    client = user("view_taskresult", is_staff=True)
    User.objects.update(is_active=False)
    assert client.get(address(KNOWN)).status_code in (401, 403)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_can_be_written(admin_client: Client, method: str) -> None:
    assert getattr(admin_client, method)(address(KNOWN)).status_code == 405


# Signed links


def test_a_link_shows_state_progress_and_times_to_anybody() -> None:
    assert link(KNOWN).startswith("http://testserver/api/tasks/known/?link=")
    answer = Client().get(link(KNOWN))
    assert answer.status_code == 200
    assert list(answer.json()) == BY_LINK


def test_a_link_shows_the_result_if_its_maker_wanted() -> None:
    shown = Client().get(link(KNOWN, show_result=True)).json()
    assert list(shown) == [*BY_LINK, "result", "error"]
    assert shown["result"] == {"total": 4}


def test_a_linked_task_is_pending_until_something_is_known_of_it() -> None:
    for client in (Client(), user()):
        shown = client.get(link(UNKNOWN)).json()
        assert (shown["id"], shown["status"], shown["ready"]) == (UNKNOWN, states.PENDING, False)


def test_a_link_is_good_for_one_task() -> None:
    token = link(KNOWN).partition("?")[2]
    assert Client().get(f"{address(UNKNOWN)}?{token}").status_code in (401, 403)


@pytest.mark.parametrize("token", ["", "x", "W10:1tqK3c:forged", "a" * 10_000, "\udcff"], ids=lambda t: t[:8])
def test_a_false_link_is_no_link(token: str) -> None:
    answer = Client().get(address(KNOWN), {"link": token.encode("utf-8", "surrogatepass")})
    assert answer.status_code in (401, 403)


def test_a_link_signed_for_something_else_is_no_link() -> None:
    from_elsewhere = signing.dumps([KNOWN, 9e9, True], salt="something else")
    assert Client().get(address(KNOWN), {"link": from_elsewhere}).status_code in (401, 403)


def test_a_link_expires() -> None:
    assert Client().get(link(KNOWN, lasts=-1)).status_code in (401, 403)


def test_a_link_adds_to_what_an_account_shows() -> None:
    client = user("view_taskresult", is_staff=True)
    assert "result" not in client.get(link(KNOWN)).json()
    shown = client.get(link(KNOWN, show_result=True)).json()
    assert shown["result"] == {"total": 4}
    assert shown["worker"] == "w"
    assert "args" not in shown


# What a task looks like


def test_a_success_shows_its_result(admin_client: Client) -> None:
    shown = admin_client.get(address(KNOWN)).json()
    assert shown["result"] == {"total": 4}
    assert (shown["ready"], shown["error"], shown["progress"]) == (True, None, None)
    assert (shown["args"], shown["kwargs"], shown["children"]) == ("(2, 2)", "{}", ["child"])
    assert (shown["runtime"], shown["date_done"]) == (1.5, "2027-01-15T09:00:00.250000+01:00")


def test_a_failure_shows_its_error(admin_client: Client) -> None:
    wire = {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}
    backend().store_many([document("a", states.FAILURE, value=wire, traceback="Traceback …")])
    shown = admin_client.get(address("a")).json()
    assert shown["error"] == {"type": "KeyError", "module": "builtins", "message": "k"}
    assert (shown["result"], shown["traceback"]) == (None, "Traceback …")


def test_a_running_task_shows_its_progress() -> None:
    backend().store_many([document("a", "PROGRESS", value={"done": 1, "total": 3})])
    shown = Client().get(link("a")).json()
    assert (shown["status"], shown["ready"]) == ("PROGRESS", False)
    assert shown["progress"] == {"done": 1, "total": 3}


def test_the_process_of_a_started_task_is_not_shown(admin_client: Client) -> None:
    backend().store_many([document("a", states.STARTED, value={"pid": 4242, "hostname": "celery@secret"})])
    assert b"4242" not in admin_client.get(address("a")).content


@pytest.mark.parametrize(
    "result",
    ["[NaN, Infinity, 1e999]", '"\\ud800"', "not json", "[" * 5000 + "]" * 5000, '{"\\ud800": "\\u0000"}'],
    ids=["no numbers", "surrogate", "damaged", "deep", "strange keys"],
)
def test_any_stored_text_can_be_asked_for(admin_client: Client, result: str) -> None:
    for status in (states.SUCCESS, states.FAILURE, "PROGRESS"):
        backend().store_many([document(status, status, result=result)])
        answer = admin_client.get(address(status))
        assert answer.status_code == 200
        json.loads(answer.content, parse_constant=pytest.fail)


def test_a_pickled_result_is_described_and_not_opened(admin_client: Client) -> None:
    pickled = document("a", result=b"cos\nsystem\n.", content_type="application/x-python-serialize")
    pickled.content_encoding = "binary"
    backend().store_many([pickled])
    assert admin_client.get(address("a")).json()["result"] == "<12 bytes of application/x-python-serialize>"


def test_asking_again_costs_no_body_while_nothing_changes(admin_client: Client) -> None:
    first = admin_client.get(address(KNOWN))
    assert first["Cache-Control"] == "private, no-cache"
    again = admin_client.get(address(KNOWN), headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    backend().store_many([document(KNOWN, states.STARTED, retries=1)])
    changed = admin_client.get(address(KNOWN), headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200


@pytest.fixture
def disabled(settings: Any) -> Iterator[None]:
    settings.DJQUEUE = {"RESULT_BACKEND": "disabled"}
    yield
    del settings.DJQUEUE


@pytest.mark.usefixtures("disabled")
def test_without_a_store_nothing_is_known(admin_client: Client) -> None:
    assert admin_client.get(address(KNOWN)).status_code == 404
    assert Client().get(link(KNOWN)).json()["status"] == states.PENDING


def test_the_schema_knows_the_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskView, "schema", openapi.AutoSchema())  # as DEFAULT_SCHEMA_CLASS would
    schema = generators.SchemaGenerator().get_schema(public=True)
    assert "200" in schema["paths"]["/api/tasks/{task_id}/"]["get"]["responses"]
    assert list(schema["components"]["schemas"]["Task"]["properties"]) == ALL_FIELDS
