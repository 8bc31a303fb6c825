"""The rules of the house, as a walk over the syntax trees of every file.

`sources.py` reads the files, `imports.py` knows who may import whom, `shape.py` knows sizes, names,
docstrings and state. Each rule yields violations as one line of text; `tests/unit/test_house.py` holds the
tables of floors, fences and named exceptions, and shows all violations in one message.
"""
