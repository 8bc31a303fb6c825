"""A real small site that uses every app of the suite: a shop, and an index of source files.

`python manage.py migrate`, `runserver` and `runworker --beat` run it; `make demo` shows it at work.
Settings come from the environment, see `settings.py`.
"""
