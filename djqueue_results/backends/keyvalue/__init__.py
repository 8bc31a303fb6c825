"""Results under keys, as Celery keeps them: documents by task id, groups by group id.

`contract.py` is the store, and what a place for values must be able to do for it; the other files are places.
"""
