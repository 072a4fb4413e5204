"""What the figures in README and docs come from; every figure is a ratio measured side by side in one run."""
