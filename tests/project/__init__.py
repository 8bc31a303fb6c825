"""The small Django project the tests run in: settings, URLs, and an app with tasks for every purpose.

It is an installed app itself, so that its `tasks.py` is found the way a user's would be.
"""
