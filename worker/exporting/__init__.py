"""Results as CSV, JSONL and Parquet: the same bytes from the command line and over HTTP."""
