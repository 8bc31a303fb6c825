"""What beat adds to `manage.py`.

The commands are in the package `commands`, where Django looks for them.
"""
