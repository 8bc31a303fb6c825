"""The admin pages of task results: what they show, to whom, and that nothing gets through unescaped."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from djqueue import states
from djqueue_results.admin import CappedPaginator
from djqueue_results.models import TaskResult
from tests.support.results import TaskResultFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/djqueue_results/taskresult/"
ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "{{7*7}}",
    "\u202egnp.exe",
    "</pre></td><svg onload=alert(1)>",
]


def staff(client: Client, *permissions: str) -> Client:
    """Log a staff member with these permissions in."""
    user = User.objects.create_user("somebody", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client.force_login(user)
    return client


def detail(row: TaskResult) -> str:
    return reverse("admin:djqueue_results_taskresult_change", args=[row.pk])


class Elements(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


# What is shown


def test_the_list_shows_tasks(admin_client: Client) -> None:
    TaskResultFactory.create(task_id="the-id", status=states.FAILURE)
    page = admin_client.get(LIST).content.decode()
    for shown in ("the-id", "shop.tasks.add", "celery@host", "1.50 s", "djqueue-bad", "default"):
        assert shown in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=first", {"first"}),
        ("q=mail", {"second"}),
        ("q=other@host", {"second"}),
        ("status=FAILURE", {"second"}),
        ("queue=default", {"first"}),
        ("task_name=shop.tasks.add", {"first"}),
        ("root_id=r", {"second"}),
        ("date_created__year=2001", set()),
    ],
)
def test_the_list_can_be_searched_and_filtered(admin_client: Client, query: str, found: set[str]) -> None:
    TaskResultFactory.create(task_id="first")
    second = {"task_name": "send_mail", "worker": "other@host", "queue": "mail", "root_id": "r"}
    TaskResultFactory.create(task_id="second", status=states.FAILURE, **second)
    response = admin_client.get(f"{LIST}?{query}")
    assert response.status_code == 200
    assert {row.task_id for row in response.context["cl"].result_list} == found


def test_a_result_is_shown_in_full(admin_client: Client) -> None:
    row = TaskResultFactory.create(
        task_args=json.dumps("({'a': 1}, 'two')"),
        task_kwargs=json.dumps("{'three': 3}"),
        result='{"total": [1, 2]}',
        retries=3,
        parent_id="the-parent",
        root_id="the-root",
        group_id="the-group",
        periodic_task_name="every morning",
        meta='{"children": [[["the-child", null], null]]}',
    )
    page = Elements(admin_client.get(detail(row)).content.decode())
    for shown in ("({'a': 1}, 'two')", "{'three': 3}", '"total": [', "every morning", "1.50 s"):
        assert shown in page.text
    links = {value for name, value in page.attributes if name == "href"}
    assert {
        f"{LIST}?task_id=the-parent",
        f"{LIST}?root_id=the-root",
        f"{LIST}?group_id=the-group",
        f"{LIST}?task_id=the-child",
    } <= links


def test_a_failure_is_shown_with_its_traceback(admin_client: Client) -> None:
    wire = {"exc_type": "KeyError", "exc_message": ["k"], "exc_module": "builtins"}
    row = TaskResultFactory.create(
        status=states.FAILURE, result=json.dumps(wire), traceback="Traceback:\n  line\nKeyError: 'k'"
    )
    page = Elements(admin_client.get(detail(row)).content.decode())
    assert "builtins.KeyError: k" in page.text
    assert "Traceback:\n  line\nKeyError: 'k'" in page.text


@pytest.mark.parametrize(
    "strange",
    [
        {"status": states.STARTED, "result": None, "date_done": None, "meta": None},
        {"status": states.FAILURE, "result": "not json", "traceback": None},
        {"content_type": "application/x-python-serialize", "content_encoding": "binary", "result": "gAQ="},
        {"content_type": "application/x-python-serialize", "content_encoding": "binary", "result": "damaged"},
        {"result": "[" * 5000 + "]" * 5000},
        {"task_args": "not json", "task_kwargs": None, "task_name": None, "worker": None, "queue": None},
        {"meta": '{"children": [1, null, [[]], "x"]}', "date_done": None},
    ],
    ids=["running", "no json", "pickle", "damaged", "deep", "empty", "odd children"],
)
def test_rows_of_any_kind_have_a_page(admin_client: Client, strange: dict[str, Any]) -> None:
    row = TaskResultFactory.create(**strange)
    assert admin_client.get(LIST).status_code == 200
    assert admin_client.get(detail(row)).status_code == 200


def test_a_huge_result_does_not_make_a_huge_page(admin_client: Client) -> None:
    row = TaskResultFactory.create(result=json.dumps("x" * 5_000_000), traceback="y" * 1_000_000)
    assert len(admin_client.get(detail(row)).content) < 100_000


# Escaping


@pytest.mark.parametrize("attack", ATTACKS, ids=ascii)
@pytest.mark.parametrize("status", [states.SUCCESS, states.FAILURE, "PROGRESS"])
def test_nothing_that_came_from_outside_becomes_part_of_the_page(
    admin_client: Client, attack: str, status: str
) -> None:
    plain = TaskResultFactory.create(status=status)
    before = [Elements(get(admin_client, address)) for address in (LIST, detail(plain))]
    plain.delete()
    wire = {"exc_type": attack, "exc_message": [attack], "exc_module": attack}
    row = TaskResultFactory.create(
        task_id=attack,
        task_name=attack,
        task_args=json.dumps(attack),
        task_kwargs=json.dumps(attack),
        status=status,
        result=json.dumps(wire if status == states.FAILURE else {attack: attack}),
        traceback=attack,
        worker=attack,
        queue=attack,
        periodic_task_name=attack,
        parent_id=attack,
        root_id=attack,
        group_id=attack,
        meta=json.dumps({"children": [[[attack, None], None]]}),
    )
    after = [Elements(get(admin_client, address)) for address in (LIST, detail(row))]
    for harmless, attacked in zip(before, after, strict=True):
        assert set(attacked.tags) - set(harmless.tags) <= {"a", "pre", "br"}
        assert not [name for name, _ in attacked.attributes if name.startswith("on")]
        links = [value or "" for name, value in attacked.attributes if name == "href"]
        assert not [link for link in links if link.startswith("javascript")]
        assert "\u202e" not in attacked.text
        assert "49" not in attacked.text.split()


def get(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("search", [*ATTACKS, "'; DROP TABLE x; --", "%", "\\", "a'b\"c"], ids=ascii)
def test_any_search_is_only_a_search(admin_client: Client, search: str) -> None:
    TaskResultFactory.create()
    assert admin_client.get(LIST, {"q": search}).status_code == 200
    for parameter in ("status", "queue", "task_name", "task_id"):
        assert admin_client.get(LIST, {parameter: search}).status_code == 200
    assert TaskResult.objects.count() == 1


# Permissions


def test_strangers_are_sent_to_the_login(client: Client) -> None:
    row = TaskResultFactory.create()
    for address in (LIST, detail(row)):
        assert "/admin/login/" in client.get(address)["Location"]


def test_staff_without_the_permission_see_nothing(client: Client) -> None:
    row = TaskResultFactory.create()
    staff(client)
    assert client.get(LIST).status_code == 403
    assert client.get(detail(row)).status_code == 403


def test_arguments_and_results_have_permissions_of_their_own(client: Client) -> None:
    row = TaskResultFactory.create(
        task_args=json.dumps("('argument',)"), result='"the result"', traceback="the traceback"
    )
    viewer = staff(client, "view_taskresult")
    user = User.objects.get()

    def page() -> str:
        return viewer.get(detail(row)).content.decode()

    for hidden in ("argument&#x27;", "the result", "the traceback"):
        assert hidden not in page()
    user.user_permissions.add(Permission.objects.get(codename="view_arguments"))
    assert "(&#x27;argument&#x27;,)" in page()
    assert "the result" not in page()
    user.user_permissions.add(Permission.objects.get(codename="view_result"))
    assert "the result" in page()
    assert "the traceback" in page()


def test_nobody_adds_or_changes_results(admin_client: Client) -> None:
    row = TaskResultFactory.create()
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(f"{LIST}add/", {"task_id": "x"}).status_code == 403
    assert admin_client.post(detail(row), {"status": "FAILURE"}).status_code == 403
    row.refresh_from_db()
    assert row.status == states.SUCCESS
    assert 'name="_save"' not in get(admin_client, detail(row))


def test_deleting_needs_its_permission(client: Client) -> None:
    row = TaskResultFactory.create()
    viewer = staff(client, "view_taskresult")
    chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
    viewer.post(LIST, chosen)
    assert viewer.post(f"{LIST}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    assert TaskResult.objects.count() == 1
    User.objects.get().user_permissions.add(Permission.objects.get(codename="delete_taskresult"))
    viewer.post(LIST, chosen)
    assert TaskResult.objects.count() == 0


# Cost


def test_the_list_reads_no_large_columns(admin_client: Client) -> None:
    TaskResultFactory.create_batch(3)
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(LIST)
    rows = [query["sql"] for query in queries if '"djqueue_results_taskresult"."task_id"' in query["sql"]]
    assert len(rows) == 1
    assert '"traceback"' not in rows[0]
    assert '."result"' not in rows[0]
    assert len(queries) < 15


def test_rows_are_counted_only_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CappedPaginator, "most", 5)
    TaskResultFactory.create_batch(7)
    assert CappedPaginator(TaskResult.objects.all(), 2).num_pages == 3
    assert CappedPaginator(TaskResult.objects.all()[:3], 2).count == 3


def test_days_are_listed_for_lists_that_are_not_too_long(
    admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    TaskResultFactory.create_batch(3)
    assert admin_client.get(LIST).context["cl"].date_hierarchy == "date_created"
    monkeypatch.setattr(CappedPaginator, "most", 3)
    assert admin_client.get(LIST).context["cl"].date_hierarchy is None
