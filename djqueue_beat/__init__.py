"""When tasks are sent: schedules in tables, the beat that works them off, the admin to edit them.

Rows are planned when they are saved; `service.Beat` looks for those that are due, and `store` takes each slot
and its message in one transaction. The app is optional: the task queue knows it only as the component "beat"
and by its command `runbeat`.
"""
