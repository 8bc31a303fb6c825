"""A Django app with the task that djqueue is measured with.

It does nothing, so that what is measured is the queue.
"""
