"""A notebook that is stepped through by hand: what its user changes after the parameters were read is noticed and said."""

from collections.abc import Mapping
from typing import Any

from ivit_helpers.record.parameters import AnyParameters

HOOK = "_ivit_changed_parameters"
"""Attribute of the IPython shell that holds the hook of its present run"""


def changed(read: Mapping[str, Any], namespace: Mapping[str, Any]) -> str:
    """One sentence on parameters that have another value than when they were read; empty where there are none."""
    values = [
        f"{name} is {namespace[name]!r}, and the run uses {value!r}"
        for name, value in read.items()
        if namespace.get(name) != value
    ]
    return (
        f"Changed since the parameters were read: {'; '.join(values)}. Run the cells again from the set-up cell on."
        if values
        else ""
    )


def watch(asked: AnyParameters) -> int | None:
    """From now on, say after every cell of this kernel when a parameter is not what the run uses. Outside IPython, do nothing.

    Returns the number of the cell that is being executed, as in `In`; None outside IPython.
    """
    try:
        from IPython import get_ipython
    except ModuleNotFoundError:
        return None
    shell = get_ipython()
    if shell is None:
        return None
    read = {name: shell.user_ns[name] for name in type(asked).model_fields if name in shell.user_ns}

    def say(_result: object = None) -> None:
        sentence = changed(read, shell.user_ns)
        if sentence:
            print(sentence)

    if hasattr(shell, HOOK):
        shell.events.unregister("post_run_cell", getattr(shell, HOOK))
    setattr(shell, HOOK, say)
    shell.events.register("post_run_cell", say)
    return len(shell.user_ns["In"]) - 1
