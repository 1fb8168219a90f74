"""How a check ends that does not hold, or cannot be made."""


class Wrong(Exception):
    """An example does not do what it says."""


class NotChecked(Exception):
    """Something is missing that the check needs."""


def demand(holds, words):
    """Fails with these words unless it holds."""
    if not holds:
        raise Wrong(words)
