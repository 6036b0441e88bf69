"""What a conversion measured, as data, JSON and tables.

`comparison` and `document` import NumPy and the standard library, `terminal` imports rich.
"""
