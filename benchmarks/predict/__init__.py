"""Predictions under load: latency with one user and with a thousand, and whether an answer is ever somebody else's."""
