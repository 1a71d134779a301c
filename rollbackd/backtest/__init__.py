"""What would have been decided about past deployments, from the history that a Prometheus-compatible server keeps."""
