"""The contenders: one module each with the same verbs, run as `python -m benchmarks.contenders.NAME VERB`.

`prepare` makes tables; `send N`, `send-bulk N`, `send-ignored N` and `round-trips N` print JSON with what
they measured, in seconds, or `null` for what the contender cannot do. BullMQ's are in JavaScript. The
commands of the workers are in `benchmarks/lineup.py`.
"""
