"""The one kind of error a user is expected to meet."""


class InputError(Exception):
    """Something the user can put right. Its text is one sentence: what happened, where, and what to do next."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]
