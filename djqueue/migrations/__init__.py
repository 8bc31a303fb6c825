"""The history of djqueue's tables: messages, dead letters, bindings.

Django's `migrate` runs these in order; nothing else imports them.
"""
