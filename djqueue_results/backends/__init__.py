"""Result stores of this app; the task queue finds them by alias or dotted path.

Documents come in from workers, rows go to the database; callers get documents back.
"""
