"""The contenders: one module each with the same verbs, run as `python -m benchmarks.contenders.NAME VERB`.

`prepare` makes tables; `send N`, `send-bulk N` and `round-trips N` print JSON with what they measured, in
seconds; `done` prints how many results are stored. The commands of their workers are in `run.py`.
"""
