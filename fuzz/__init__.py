"""Fuzzing of the readers: inputs of real structure, changed inside it. `python -m fuzz --help`."""
