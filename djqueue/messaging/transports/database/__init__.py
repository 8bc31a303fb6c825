"""The database broker: a message is a row, and sending is part of the caller's transaction.

`broker` sends and counts, `source` receives for a worker, `claims` holds the SQL and what differs between
database vendors, `liveness` tells the dead from the living, `doorbell` wakes sleepers, `kombu_transport`
lets kombu speak to the same tables.
"""
