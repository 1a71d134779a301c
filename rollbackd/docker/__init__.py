"""Docker Engine and what its API says: under sources and targets, and knowing neither."""
