"""Teachers: which ones are published, and those of more classes than students.

Their networks are those of `models.fixed`, and may be students too.
"""
