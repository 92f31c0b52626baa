"""What happens later: a pure policy says which jobs are due, a queue holds them, a worker runs them.

Nothing here knows a store: the queue is a port, and what a job does is a handler that the engine hands over.
"""
