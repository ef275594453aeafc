"""Following jobs live: one poller per job, many listeners."""
