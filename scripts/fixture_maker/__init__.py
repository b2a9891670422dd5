"""Synthetic recordings of a live-chat socket. Standard library only; see docs/recordings.md.

`evening` plays the people and says when what happens, `frames` knows the shapes that the source uses, `texts` what people
write, `check` holds a finished recording against the shapes and against what it promises to contain.
"""
