"""Declaring a task, and running one.

User code comes in through the decorators and the class `Task`; messages come in through `execution.perform`,
and what became of them leaves as an `Outcome`. Nothing here knows brokers, pools or stores.
"""
