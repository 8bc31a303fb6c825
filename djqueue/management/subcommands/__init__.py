"""The parts of `manage.py djqueue`: one file per group of subcommands, each with an `add` for its parsers.

(Not in `commands/`, where Django takes every file for a command of its own.)
"""
