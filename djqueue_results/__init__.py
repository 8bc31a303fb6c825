"""Where results are kept: the table of task results, the "django-db" store, the admin, the status API.

Workers come in through `backends.database`, people through the admin, programs through `api`. The app is
optional: the task queue knows it only by the alias "django-db".
"""
