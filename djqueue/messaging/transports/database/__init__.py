"""The database broker: a message is a row, and sending is part of the caller's transaction.

`broker` sends and counts, `source` receives for a worker, `claims` holds the SQL, `kombu_transport` lets
kombu speak to the same tables. What differs between databases is behind `contract`: `sqlite` (lock files and
doorbells), `postgresql` and `mysql` (leases, and locks of sessions); `vendors` picks one.
"""
