"""Networks: the student, fixed networks, and the interface of both."""
