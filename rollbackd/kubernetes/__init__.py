"""The Kubernetes API as rollbackd asks it: who we are there, requests, watches and the few fields we look at."""
