"""One suite for every pool (`test_every_pool`), and what only some of them promise."""
