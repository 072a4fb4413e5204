"""The HTTP side: one module for each noun of the API, and what all of them share."""
