"""The broker: how messages leave this process, wait, and come to a worker.

`publisher` sends, `brokers` finds the broker by its URL, `contract` is the seam that every transport fills.
Nothing above this floor knows kombu, a table or a socket.
"""
