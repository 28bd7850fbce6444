"""Indexes derived from the store: vectors (Faiss), keywords (BM25), facets and stored fields."""
