"""Networks: the student, the teachers, and the interface of both."""
