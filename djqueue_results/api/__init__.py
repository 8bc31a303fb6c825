"""The status of tasks over HTTP, by Django REST framework; include `djqueue_results.api.urls`.

Requests come in for one task id; a status leaves, with as much of it as the visitor may see.
"""
