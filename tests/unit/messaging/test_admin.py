"""Messages and dead letters in the admin: who sees what, and putting dead letters back.

Users with and without permissions open the pages of rows that the broker made; requeued letters are received.
"""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db.models import Model
from django.test import Client
from django.urls import reverse

from djqueue.core.messages import Destination, Outgoing, WireMessage
from djqueue.messaging import brokers
from djqueue.models import DeadLetter, Message

pytestmark = pytest.mark.django_db


def visitor(*permissions: str) -> Client:
    """Return the browser of a member of staff who has these permissions of djqueue."""
    user = get_user_model().objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def page(row: Model) -> str:
    return reverse(f"admin:djqueue_{row._meta.model_name}_change", args=[row.pk])


@pytest.fixture
def message() -> Message:
    sent = WireMessage(
        {"task": "tests.add\x1b[31m", "id": "a", "argsrepr": "('s3cret',)"},
        {"priority": 4},
        b'[["s3cret"], {}, {}]',
    )
    brokers.broker().send_many([Outgoing(sent, Destination("", "mails", "mails"), due=4e9)])
    return Message.objects.get()


@pytest.fixture
def letter() -> DeadLetter:
    return DeadLetter.objects.create(
        queue="mails",
        routing_key="mails",
        task="tests.add",
        task_id="a",
        starts=5,
        body=b"[[], {}, {}]",
        headers='{"task":"tests.add","id":"a"}',
        properties='{"priority":4}',
        content_type="application/json",
        content_encoding="utf-8",
        reason="max_deliveries",
        detail="it kills whoever runs it",
    )


def test_waiting_messages_are_shown_and_never_changed(message: Message) -> None:
    client = visitor("view_message", "view_content")
    listed = client.get(reverse("admin:djqueue_message_changelist"), {"q": "tests"}).content.decode()
    assert "tests.add\\x1b[31m" in listed
    shown = client.get(page(message)).content.decode()
    assert "s3cret" in shown
    assert "2096" in shown
    assert client.post(page(message), {"queue": "other"}).status_code == 403
    assert client.get(reverse("admin:djqueue_message_add")).status_code == 403
    assert client.post(reverse("admin:djqueue_message_delete", args=[message.pk])).status_code == 403


def test_arguments_need_a_permission_of_their_own(message: Message) -> None:
    client = visitor("view_message")
    assert "s3cret" not in client.get(page(message)).content.decode()


def test_without_the_permission_to_view_there_is_nothing(message: Message, letter: DeadLetter) -> None:
    client = visitor("view_content")
    assert client.get(page(message)).status_code == 403
    assert client.get(page(letter)).status_code == 403


def requeue(client: Client, *letters: DeadLetter) -> str:
    """Choose the letters and the action in the list; return the page that follows."""
    return client.post(
        reverse("admin:djqueue_deadletter_changelist"),
        {"action": "requeue", "_selected_action": [letter.pk for letter in letters]},
        follow=True,
    ).content.decode()


def test_a_dead_letter_is_put_back_whole(letter: DeadLetter) -> None:
    shown = requeue(visitor("view_deadletter", "requeue_deadletter"), letter)
    assert "1 dead letter was put back." in shown
    assert not DeadLetter.objects.exists()
    back = Message.objects.get()
    assert (back.queue, back.task_id, back.starts, back.priority) == ("mails", "a", 0, 4)
    assert bytes(back.body) == b"[[], {}, {}]"
    assert LogEntry.objects.get().get_change_message() == "Put back into the queue mails."


def test_putting_back_needs_the_permission(letter: DeadLetter) -> None:
    requeue(visitor("view_deadletter"), letter)
    assert DeadLetter.objects.exists()
    assert not Message.objects.exists()


def test_a_dead_letter_that_cannot_be_read_stays(letter: DeadLetter) -> None:
    DeadLetter.objects.update(headers="{")
    shown = requeue(visitor("view_deadletter", "requeue_deadletter", "view_content"), letter)
    assert "1 cannot be read and stays." in shown
    assert DeadLetter.objects.exists()


def test_dead_letters_may_be_thrown_away_with_the_permission(letter: DeadLetter) -> None:
    client = visitor("view_deadletter", "delete_deadletter")
    assert (
        client.post(reverse("admin:djqueue_deadletter_delete", args=[letter.pk]), {"post": "yes"}).status_code
        == 302
    )
    assert not DeadLetter.objects.exists()
