"""A knowledge base on a Milvus server, or in a file of Milvus Lite: the back end for more than one
machine holds."""
