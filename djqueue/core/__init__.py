"""Floor 0: words and sums. No sockets, no database, no threads.

What was asked for (`calls`), how it reads on the wire (`protocol`, `serialization`), where it goes
(`routing`), who is being run (`requests`), and the small sums around them. Every other floor comes here;
nothing here goes anywhere else.
"""
