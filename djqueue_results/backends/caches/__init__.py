"""Results in caches: memcached, any of Django's caches, and this process's memory, as Celery keeps them.

`contract.py` is the store, and what a cache must be able to do for it; the other files are the caches.
"""
