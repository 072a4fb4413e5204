"""What a personal model gives away: canaries of other users and of one's own, and what hiding them costs.

Needs nothing but plora's own dependencies and the data sets of benchmarks.quality.
"""
