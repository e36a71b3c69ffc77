"""The `ivit` command."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from ivit_helpers.cards.place import place as this_place
from ivit_helpers.errors import InputError, Stopped
from ivit_helpers.record.folder import RunFolder, check_folder
from ivit_helpers.record.parameters import (
    MODEL_NOTEBOOKS,
    AnyParameters,
    CompareParameters,
    Parameters,
    described,
    parse,
    share_out,
    validate,
)
from ivit_helpers.record.record import SYMBOLS, AnyRecord, json_schema, write_whole

if TYPE_CHECKING:
    from ivit_helpers.card.texts import Language

# What needs torch, papermill or matplotlib is imported where it is used: a mistyped parameter is reported without it.

ALL = tuple(MODEL_NOTEBOOKS)
BAD_INPUT = 2
INTERRUPTED = 3
SHARED = ("accuracy",)
"""The notebooks whose work the processes of a user's own torchrun share out"""


def _epilog() -> str:
    """The parameters of every notebook, for `ivit run --help`."""
    parts = []
    common = set(Parameters.model_fields)
    kinds: dict[str, type[Parameters]] = {"every notebook": Parameters, **MODEL_NOTEBOOKS}
    for title, kind in kinds.items():
        lines = [
            f"  {name}={default}\n      {description}"
            for name, default, description in described(kind)
            if title == "every notebook" or name not in common
        ]
        parts.append("\b\nParameters of " + title + "\n" + "\n".join(lines))
    return "\n\n".join(parts)


def _is_somewhere() -> bool:
    """Whether the current folder exists; elsewhere torch ends this process without a sentence of ours."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def _open_closed_streams() -> None:
    """Where this process was started without a standard output, give it and its kernels one that leads nowhere."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, number)
            os.set_inheritable(number, True)
            if nowhere != number:
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "r" if name == "stdin" else "w", encoding="utf-8"))


@click.group()
@click.version_option(package_name="ivit-helpers")
def main() -> None:
    """Smoke, benchmark, accuracy and explore reports for InternViT on this machine's accelerator."""
    os.environ.pop(
        "MPLBACKEND", None
    )  # figures are drawn without a window, and an unknown name would end matplotlib's import
    _open_closed_streams()
    if not _is_somewhere():
        _refuse(
            [
                InputError(
                    "The current folder was deleted, and libraries cannot be loaded from there: change to another folder."
                )
            ]
        )
    for stream in (sys.stdout, sys.stderr):  # what the terminal's encoding lacks must not end a run
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@main.command(epilog=_epilog())
@click.argument("notebooks", nargs=-1, type=click.Choice(ALL), metavar=" ".join(f"[{name}]" for name in ALL))
@click.option(
    "-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="Set a parameter; may be repeated."
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run. [reports/<UTC time>-<model>-<device>]")
@click.option(
    "--cell-timeout",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Stop a cell that takes longer. [hours, by the work]",
)
def run(notebooks: tuple[str, ...], given: tuple[str, ...], out: Path | None, cell_timeout: int | None) -> None:
    """Run notebooks (all four when none is named) and leave HTML reports.

    Exit codes: 0 no check failed, 1 a check failed or a notebook did not finish, 2 bad parameters and nothing was started, 3 a card or
    a process ended early and the command that is printed goes on, 130 stopped by Ctrl-C, 143 by SIGTERM.
    """
    names = tuple(dict.fromkeys(notebooks)) or ALL
    try:
        if _is_one_of_several(names):
            return
        chosen = share_out(names, _with_out(parse(given), out))
        problems, images = _examined(chosen)
        if problems:
            raise problems[0]
        _check_device(chosen)
        _check_sockets()
        folder = RunFolder(chosen[names[0]])
    except InputError as error:
        _refuse([error])
    except KeyboardInterrupt:
        click.echo("ivit: stopped by Ctrl-C before anything was started", err=True)
        sys.exit(128 + signal.SIGINT)
    limits = {name: cell_timeout or asked.longest_cell_s(images[name]) for name, asked in chosen.items()}
    sys.exit(_run(chosen, folder, limits))


def _with_out(given: dict[str, str], out: Path | None) -> dict[str, str]:
    """The parameters with the folder that --out names, which is the parameter `out`."""
    if out and "out" in given:
        raise InputError("--out and -p out= mean the same thing: give one of them.")
    return given | ({"out": str(out)} if out else {})


def _is_one_of_several(names: Sequence[str]) -> bool:
    """Whether this process was one that a user's torchrun had started beside the first, which makes the report; then its share is done."""
    place = this_place()
    if place is None:
        return False
    sharing = [name for name in names if name in SHARED]
    if not sharing:
        raise InputError(
            f"torchrun has started {place.processes} processes, and only {' and '.join(SHARED)} can share its work out: start the others "
            "without torchrun."
        )
    if place.rank:
        for name in sharing:
            import_module(f"ivit_helpers.{name}.worker").join(place)
    return place.rank > 0


def _run(chosen: Mapping[str, AnyParameters], folder: RunFolder, limits: Mapping[str, int]) -> int:
    """Run notebooks one after another in their folder, and close it; returns the exit code. limits: seconds of one cell of each."""
    from ivit_helpers.report.ending import stoppable
    from ivit_helpers.report.execute import run_notebook
    from ivit_helpers.report.progress import tell

    if folder.set_aside:
        click.echo(f"What an earlier run left in {folder.path} is now in {folder.set_aside}.", err=True)
    failed = interrupted = False
    with stoppable() as stop:
        try:
            for number, (name, given) in enumerate(chosen.items(), 1):
                tell(f"[{number}/{len(chosen)}] {name} …\n", sys.stderr)
                record = run_notebook(name, given, folder.path, stop, limits[name])
                failed |= record.status in {"failed", "incomplete"}
                tell(f"{_summary(record, folder.path)}\n", sys.stdout)
                interrupted |= record.status == "incomplete" and bool(record.resume)
                if stop.signal:
                    break
        except (Stopped, InputError) as ended:
            tell(f"ivit: {ended}\n", sys.stderr)
            failed = True
        finally:
            folder.close()
    return 128 + stop.signal if stop.signal else INTERRUPTED if interrupted else int(failed)


@main.command()
@click.argument("notebooks", nargs=-1, type=click.Choice(ALL), metavar=" ".join(f"[{name}]" for name in ALL))
@click.option(
    "-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="Set a parameter; may be repeated."
)
def check(notebooks: tuple[str, ...], given: tuple[str, ...]) -> None:
    """Say what device a run would use, and everything that would keep it from running; nothing is loaded.

    Without a notebook, the first that knows all the given parameters is checked. Exit code 2 when a run cannot start.
    """
    try:
        pairs = parse(given)
        names = (
            notebooks or [name for name in ALL if pairs.keys() <= MODEL_NOTEBOOKS[name].model_fields.keys()][:1] or ALL
        )
        chosen = share_out(names, pairs)
    except InputError as error:
        _refuse([error])
    first = chosen[names[0]]
    problems, _ = _examined(chosen)
    try:
        _print(f"{_select(first)}\n")
    except InputError as error:
        problems.append(error)
    if problems:
        _refuse(problems)


def _print(text: str) -> None:
    """Print what was asked for. Raises InputError where it cannot be written, for example to a file on a full disk."""
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:  # whoever read it has seen enough, which click knows how to end
        raise
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # else Python tries once more at its end, and complains
        os.close(nowhere)
        raise InputError(
            f"What was asked for cannot be printed ({error.strerror}): make room, or print it elsewhere."
        ) from None


def _refuse(problems: Sequence[InputError]) -> NoReturn:
    """Say what is wrong, each thing once, and exit."""
    for sentence in dict.fromkeys(map(str, problems)):
        click.echo(f"ivit: {sentence}", err=True)
    sys.exit(BAD_INPUT)


@main.command()
@click.argument("runs", nargs=-1, metavar="RUN RUN...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the comparison. [reports/<UTC time>-compare]")
def compare(runs: tuple[str, ...], out: Path | None) -> None:
    """Put runs side by side and leave an HTML report: what is different, and what got faster, slower, worse.

    A RUN is a run's folder, its record (.json) or its page (.html). The others are compared with the first. Exit codes: 0 nothing got
    worse, 1 something got worse or the comparison did not finish, 2 bad input and nothing was started.
    """
    try:
        asked = validate(CompareParameters, {"runs": list(runs), "out": str(out) if out else ""})
        check_folder(asked)
        import_module("ivit_helpers.compare").check_inputs(asked)
        _check_sockets()
        folder = RunFolder(asked)
    except InputError as error:
        _refuse([error])
    sys.exit(_run({"compare": asked}, folder, {"compare": asked.longest_cell_s(0)}))


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--lang", "language", type=click.Choice(["en", "zh"]), default="en", help="Language of the card. [en]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File for the card. [the terminal]")
def card(runs: tuple[str, ...], language: "Language", out: Path | None) -> None:
    """Write the model card of runs of one model, in Markdown: what they measured, and nothing else.

    A RUN is a run's folder, its record (.json) or its page (.html). Exit codes: 0 written, 2 bad input.
    """
    from ivit_helpers.card.card import model_card

    try:
        written = model_card(runs, language)
        if out:
            write_whole(out, written)
        else:
            _print(written)
    except InputError as error:
        _refuse([error])


@main.command()
def schema() -> None:
    """Print the JSON schema of a run's record."""
    try:
        _print(json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n")
    except InputError as error:
        _refuse([error])


def _examined(chosen: Mapping[str, Parameters]) -> tuple[list[InputError], dict[str, int]]:
    """What is wrong with what the parameters name, and how many images each notebook has to classify. Reads no weights and no pixels."""
    from ivit_helpers.weights import checkpoint

    problems: list[InputError] = []
    images = dict.fromkeys(chosen, 0)

    def ask(name: str, question: Callable[[], int | None]) -> None:
        try:
            images[name] = question() or 0
        except InputError as error:
            problems.append(error)

    for names in dict.fromkeys((given.model, getattr(given, "head", "")) for given in chosen.values()):
        ask("", partial(checkpoint.check, *names))
    for name, given in chosen.items():
        ask("", partial(check_folder, given))
        ask(name, partial(import_module(f"ivit_helpers.{name}").check_inputs, given))
    return problems, images


def _check_device(chosen: Mapping[str, Parameters]) -> None:
    """Find what the device cannot do, before a kernel starts. A driver that this would start is left to a process of its own.

    chosen: the parameters of all notebooks of the run, which share model, device and dtype; some may take several devices.
    """
    from ivit_helpers.device import selection

    name = next((name for name, given in chosen.items() if _devices(given)), next(iter(chosen)))
    given = chosen[name]
    if not selection.may_start_a_driver(given.device, _devices(given)):
        _select(given)
        return
    if _devices(given):
        asked = given.model_dump(mode="json", exclude_unset=True)
    else:
        name, asked = ALL[0], {"model": given.model, "device": given.device, "dtype": given.dtype}
    words = [f"-p{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in asked.items()]
    done = subprocess.run(
        [sys.executable, "-m", "ivit_helpers", "check", name, *words], capture_output=True, text=True, check=False
    )
    if done.returncode == BAD_INPUT:
        raise InputError(done.stderr.strip().splitlines()[-1].removeprefix("ivit: "))
    if done.returncode:
        last = (done.stderr.strip() or "it printed nothing").splitlines()[-1]
        named = f"devices={_devices(given)!r}" if _devices(given) else f"device={given.device!r}"
        raise InputError(f"{named} cannot be started, a process that tried ended with {done.returncode}: {last}")


def _devices(given: Parameters) -> str:
    """The `devices` parameter; empty for a notebook that has none."""
    return str(getattr(given, "devices", ""))


def _check_sockets() -> None:
    from ivit_helpers.report.execute import check_sockets

    check_sockets()


def _select(given: Parameters) -> str:
    """The device that a run would use, named, after all that can be asked of it without loading anything."""
    from ivit_helpers.device import device, selection, several
    from ivit_helpers.weights import checkpoint, hub, loading

    chosen = selection.select(given.device, _devices(given))
    dtype = chosen.dtype(given.dtype)
    if not hub.is_hub_id(given.model):  # what is not here yet is measured once it is
        loading.check_memory(checkpoint.find(given.model), chosen, dtype)
    others = several.named_devices(_devices(given), given.device)[1:] if _devices(given) else ()
    return f"{chosen}, {device.dtype_name(dtype)}{', and ' if others else ''}{', '.join(others)}"


def _summary(record: AnyRecord, folder: Path) -> str:
    page = folder / f"{record.notebook}.html"
    shown = page.relative_to(Path.cwd()) if Path.cwd() in page.parents else page
    return f"{SYMBOLS[record.status]} {record.notebook}: {record.verdict} {shown}"


if __name__ == "__main__":
    main()
