"""The pool of child processes. Three parties, each in files of its own:

the parent (`pool`, `slots`, `limits`: what each child holds and for how long), the nursery (`nursery`: the
one process that forks, so that forking never meets threads or connections) and the child (`childhood`,
`child`). They speak in frames (`frames`) over one socket pair each and share no lock.
"""
