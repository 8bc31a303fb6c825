"""A shop: orders come in over HTTP, tasks charge them and write receipts.

The shortest honest example of tasks in a Django app: `tasks.py` holds them, `views.py` sends them.
"""
