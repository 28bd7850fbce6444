"""The backend of a base in a folder: an SQLite store with indexes derived from it."""
