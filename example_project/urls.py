"""URLs of the example site: the shop, the admin, and the status of tasks over HTTP.

`/admin/` shows results and schedules; `/api/tasks/{id}/` answers staff who may see results.
"""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from example_project.shop.views import place_order

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/tasks/", include("djqueue_results.api.urls")),
    path("orders/", place_order, name="place-order"),
]
