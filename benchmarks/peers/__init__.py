"""Other libraries that ingest, search and answer, one small file each, each run in an environment of its own."""
