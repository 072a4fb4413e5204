"""`ingest`: events from a message broker, sent on to the daemon's own door. No database, no keys."""
