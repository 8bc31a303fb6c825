"""The Redis broker: kombu's key layout, and leases that let messages survive whoever holds them.

`broker` sends and counts, `source` receives for a worker. Every step that must not be cut in half is a Lua
script of its own file. A message is always in its queue, put off, or recorded as held, never nowhere.
"""
