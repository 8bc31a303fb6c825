"""Running many tasks: what `manage.py runworker` does from its first line to its clean stop."""
