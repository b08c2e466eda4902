"""Can the result of an attack be believed? See `pre_attack`, `post_attack`."""
