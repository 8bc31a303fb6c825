"""The indexer as a Django app.

Nothing comes in and nothing leaves: the class only gives the app its name and label.
"""

from __future__ import annotations

from django.apps import AppConfig


class IndexerConfig(AppConfig):
    """Counts what is in source and message files."""

    name = "example_project.indexer"
    label = "indexer"
