"""One module per source format, each with `recognizes(path, head)` and `read_rows(path)`.

`READERS` in ravlm/data/readers.py lists them.
"""
