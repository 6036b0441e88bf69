"""What a conversion or a comparison measured: as a document, as JSON, and as tables.

`document` imports `verify` and NumPy, `terminal` rich too. Only the command and `convert` import
this room.
"""
