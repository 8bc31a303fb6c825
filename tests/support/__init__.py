"""What tests share: waiting for conditions, real servers, real processes, the ledger of crash tests.

Nothing here stands in for a part of djqueue: servers are servers, processes are processes.
"""
