"""The history of beat's tables.

Django reads and writes these files; `makemigrations` adds the next one.
"""
