"""Results in MongoDB, in the collections of Celery's MongoDB store.

`store.py` is the store; `places.py` reads address and settings, `client.py` keeps the connections, and
`documents.py` turns documents into those of the collections and back.
"""

from __future__ import annotations

try:
    import pymongo as pymongo
except ImportError as missing:
    raise ImportError("PyMongo is not installed: pip install djqueue[mongodb].") from missing
