"""How fast djqueue is, beside its peers, in one run on one machine.

`python -m benchmarks.run` measures; each question has a file, each contender a module with the same verbs.
"""
