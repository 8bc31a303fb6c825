"""RabbitMQ: messages in its queues, as Celery declares them.

`broker.py` sends and answers questions, `source.py` receives for one worker. kombu reads URLs and declares,
py-amqp opens connections and channels; what every message needs (publish, confirm, deliver, acknowledge) is
written and read here in batches.
"""
