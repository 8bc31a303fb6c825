"""URLs of the test project: the admin and the task status API where the documentation puts it.

Requests of tests come in; the apps of the suite answer them.
"""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/tasks/", include("djqueue_results.api.urls")),
]
