"""How long to wait before something that failed is tried again."""

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0


class Backoff:
    """A pause in seconds that doubles with each failure in a row, up to a limit."""

    def __init__(self, first: float = FIRST_SECONDS, longest: float = LONGEST_SECONDS) -> None:
        self.pause = first
        self._first, self._longest = first, longest

    def failed(self) -> None:
        """Doubles the pause."""
        self.pause = min(2 * self.pause, self._longest)

    def reset(self) -> None:
        """Goes back to the first pause."""
        self.pause = self._first
