"""What is kept in the project's own tables, whatever carries the messages.

Dead letters and revocations of every broker that has no place of its own for them (`deadletters`,
`revocations`), messages as rows (`rows`), and what databases say when they cannot (`failures`).
"""
