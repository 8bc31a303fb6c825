"""Django's entry to the commands of this app.

Each command turns words of the command line into one call; the work is done in djqueue.worker and below.
Nothing else lives here.
"""
