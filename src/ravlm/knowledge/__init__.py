"""Knowledge bases: storage in exchangeable backends, indexes, ingestion and search."""
