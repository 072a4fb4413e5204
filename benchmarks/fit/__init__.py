"""What fitting a user costs and what it is worth, beside PEFT, the Hugging Face Trainer and the bare frozen model.

python -m benchmarks.fit --out DIR [--quick]
"""
