"""Accuracy, attacks on a network, and what they leave behind."""
