"""The brokers themselves, one module or package for each kind of server.

`messaging/brokers.py` imports them by dotted path when their URL scheme is asked for, so that a project
loads only the one it uses.
"""
