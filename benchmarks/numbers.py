"""Redis' database numbers, for all who can keep messages and results apart.

Contenders import this, so it imports nothing: what is measured must not carry what measures it.
"""

from __future__ import annotations

BROKER_DB, RESULT_DB = 0, 1
