"""Addresses of the API; a project mounts them with `path("api/tasks/", include("djqueue_results.api.urls"))`.

Requests come in by path; views answer them.
"""

from __future__ import annotations

from django.urls import path

from djqueue_results.api.views import TaskView

app_name = "djqueue_results_api"
urlpatterns = (path("<str:task_id>/", TaskView.as_view(), name="task"),)
