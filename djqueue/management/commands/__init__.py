"""The commands: one file each, named as it is typed after `manage.py`.

They parse, check, call and turn the end into an exit code; whatever takes longer to explain lives below.
`runworker` is the one that most projects ever need.
"""
