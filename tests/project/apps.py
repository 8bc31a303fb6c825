"""The test project as a Django app, so that autodiscovery finds its tasks.

Nothing comes in and nothing leaves: the class only gives the app its label.
"""

from __future__ import annotations

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """The app whose tasks the functional tests send."""

    name = "tests.project"
    label = "project"
