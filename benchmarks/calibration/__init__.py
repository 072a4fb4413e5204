"""How sure answers are and whether they may be: calibration, held answers and reasons, on real people.

Needs nothing but plora's own dependencies and the data sets of benchmarks.quality.
"""
