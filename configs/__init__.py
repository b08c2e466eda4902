"""Configurations; each file has `get_config(argument)`."""
