"""The history of the table of task results."""
