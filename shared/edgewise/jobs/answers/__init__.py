"""Answers that are kept or made behind the client's back: responses and background chat."""
