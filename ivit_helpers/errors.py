"""The error that a user can put right, and how errors of other code are described."""

EXPECTED = (OSError, ValueError, RuntimeError, MemoryError, OverflowError, EOFError)
LIBRARIES = {"torch", "safetensors", "safetensors_rust", "pydantic_core", "PIL", "pyarrow", "huggingface_hub"}
LIBRARIES |= {"nbformat", "nbclient", "papermill", "jupyter_client", "jinja2", "subprocess", "sqlite3"}
LIBRARIES |= {"pickle", "_pickle", "zipfile", "tarfile", "zlib", "struct"}
"""Modules whose errors are about what they were given"""


class InputError(Exception):
    """Something the user can put right. Its text is one sentence: what happened, where, and what to do next."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class ChecksFailed(InputError):  # noqa: N818  read by people: "ChecksFailed: ..."
    """A check has failed in a notebook that reached its conclusion: raised by the last cell, for its runner."""


class Unavailable(NotImplementedError):  # noqa: N818  read by people
    """Something that a device, or what is installed for it, cannot do, which is no failure: what, and why."""


class Stopped(KeyboardInterrupt):
    """A second signal asked this process to stop."""


def first_line(error: BaseException) -> str:
    """The first line of an error's text, or the name of its class where it has no text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def describe_error(error: BaseException) -> str:
    """The name of an error's class and the first line of its text."""
    return f"{type(error).__name__}: {first_line(error)}"


def sentence(error: Exception) -> str:
    """What input, the machine or a library did wrong; empty for a bug of this kit, which needs its traceback."""
    if isinstance(error, InputError):
        return str(error)
    modules = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return describe_error(error) if isinstance(error, EXPECTED) or modules & LIBRARIES else ""
