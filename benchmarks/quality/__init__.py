"""Whether a personal model is worth having: on real people, beside its controls, with an interval on every figure.

python -m benchmarks.quality --out DIR [--data FILE ...] [--quick]
"""
