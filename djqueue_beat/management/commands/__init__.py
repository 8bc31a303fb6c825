"""The commands of beat: `runbeat`.

One module per command, named as it is called.
"""
