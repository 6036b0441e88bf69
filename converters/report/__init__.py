"""What a conversion or a comparison measured: as data, JSON, tables, pages and a model card.

`document` imports `verify` and NumPy, `terminal` rich too. Only the command and `convert` import
this room.
"""
