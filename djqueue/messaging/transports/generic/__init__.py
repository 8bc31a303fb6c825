"""Every other broker that kombu knows: SQS, SQLAlchemy, a directory of files, ZooKeeper, MongoDB and more.

`traits` says what kombu does not tell of its transports, `link` connects and publishes for `broker` and
`source`, `fetcher` is the thread that consumes, `messages` translates. What such a broker cannot do
its capabilities say, and `manage.py check` names it.
"""
