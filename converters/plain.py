"""Text that came out of a file, for a terminal. Imports nothing."""


def plain(line: str) -> str:
    """A line with what cannot be printed as Python writes it: names may hold escape sequences."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
