"""Other libraries that ingest documents, one small file each: run in an environment of its own by `ingest_peers`."""
