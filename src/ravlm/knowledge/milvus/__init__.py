"""Knowledge bases on a Milvus server or in a file of Milvus Lite, for more data than one machine
holds."""
