"""djqueue beside what other people wrote: stock Celery and clients in other languages, both ways."""
