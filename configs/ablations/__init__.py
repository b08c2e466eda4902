"""Ablations of the paper; each file has `get_config(argument)`."""
