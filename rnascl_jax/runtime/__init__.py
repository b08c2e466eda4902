"""What all rooms run on: files, processes, locks, signals, versions."""
