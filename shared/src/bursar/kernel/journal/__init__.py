"""Where entries and snapshots are stored: JetStream, and a twin in memory with the same rules."""
