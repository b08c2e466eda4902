"""How a student is compared with a teacher, and what that trains."""
