"""What a run leaves behind: identity, events, streams, layers, and how each reaches disk redacted.

`identity`, `shapes` and `health` are words; the others each own one kind of file. Only the recorder and the pumps
of streams call what writes.
"""
