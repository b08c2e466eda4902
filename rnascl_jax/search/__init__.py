"""The search space, its architecture parameters, and what they cost."""
