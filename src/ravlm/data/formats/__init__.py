"""One module a format: `recognises(path, head)` and `rows(path)`. The table of them is `READERS` in
readers.py."""
