"""Pure functions over scores: filters, rank fusion, reranking, calibration of scores."""
