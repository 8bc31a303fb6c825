"""An index of source and message files: the work that `make demo` shows.

One task for each file of the installed Django, which every machine with this project has. `counting.py`
looks into a file, `tasks.py` makes that a task, the `demo` command runs the whole and prints a table.
"""
