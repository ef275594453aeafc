"""The truth: SQL tables, and every statement that moves a job, a shard or a result. Knows no Keras and no queue."""
