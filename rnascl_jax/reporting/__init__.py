"""What is said of results: tables, figures, reports."""
