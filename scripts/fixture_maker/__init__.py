"""Synthetic recordings of a live-chat socket. Standard library only; see docs/recordings.md.

`evening` is the clock, `director` says who begins what, `scenes` and `studio` are what fans and accounts do, `noise` what is
unknown or broken; `frames` knows the source's shapes, `texts` what people write, `people` who they are. `check` holds a finished
recording against the shapes and against what it promises to contain.
"""
