"""Taking jobs: from a parsed request to a job that workers see, whatever the broker does."""
