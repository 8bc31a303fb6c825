"""The tests of djqueue, on storeys: unit, contracts, wire, functional, crash.

`support/` holds what tests share (waiting, servers, processes, the ledger of crash tests); `project/` is
the small Django project they run in. `unit/` mirrors the packages and needs no broker and no sleep.
"""
