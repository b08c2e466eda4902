"""Commands; each has `--help`."""
