"""The status of one task.

A GET for an id comes in and is answered from whatever store keeps the results, with as much as the visitor
may see. Asking again costs no body while nothing has changed (ETag).
"""

from __future__ import annotations

from typing import Any

from django.http import Http404
from django.utils.decorators import method_decorator
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from djqueue import states
from djqueue.result.backends import backend
from djqueue.result.documents import Document
from djqueue_results.api.permissions import MaySeeTask, sight, sight_by_link
from djqueue_results.api.serializers import TaskSerializer


@method_decorator([conditional_page, cache_control(private=True, no_cache=True)], name="dispatch")
class TaskView(GenericAPIView[Any]):
    """State, progress, times, result or error of a task."""

    permission_classes = (MaySeeTask,)
    serializer_class = TaskSerializer

    def get(self, request: Request, task_id: str) -> Response:
        """Return what is known of the task; 404 if nothing is, or nothing may be told."""
        document = self.find(task_id)
        if document is None and sight_by_link(request, task_id):
            # Whoever signed the link knows the task: it waits to be sent or to start.
            document = Document(task_id, states.PENDING)
        if document is None:
            raise Http404
        return Response(self.get_serializer(document).data)

    def get_serializer_context(self) -> dict[str, Any]:
        """Return what the serializer has to know: how much the visitor may see."""
        context = dict(super().get_serializer_context())
        if self.request is not None:  # None while the schema is made
            context["sight"] = sight(self.request, self.kwargs["task_id"])
        return context

    def find(self, task_id: str) -> Document | None:
        """Return the task's document, or None. Override it to hide tasks that are not the visitor's."""
        store = backend()
        return store.fetch(task_id) if store.keeps else None
