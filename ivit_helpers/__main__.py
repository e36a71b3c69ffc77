"""The `ivit` command."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ivit_helpers.distributed import place as this_place
from ivit_helpers.errors import InputError, Stopped, sentence
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
from ivit_helpers.record.record import SYMBOLS, json_schema, write_whole

if TYPE_CHECKING:
    from ivit_helpers.model_card.texts import Language

# What needs torch, papermill or matplotlib is imported where it is used: a mistyped parameter is reported without it.

ALL = tuple(MODEL_NOTEBOOKS)
BAD_INPUT = 2
INTERRUPTED = 3
SHARED = "accuracy"
"""The notebook whose work the processes of a user's own torchrun share out"""
NOTEBOOKS = click.argument("notebooks", nargs=-1, type=click.Choice(ALL), metavar=" ".join(f"[{n}]" for n in ALL))
PARAMETERS = click.option(
    "-p", "--parameter", "given", multiple=True, metavar="NAME=VALUE", help="Set a parameter; may be repeated."
)


class OneHandler(click.Group):
    """The one place where errors end: what is no bug of this kit becomes a sentence, and Ctrl-C the exit code 130."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            click.echo("ivit: stopped by Ctrl-C", err=True)
            sys.exit(128 + signal.SIGINT)
        except Exception as error:
            if not sentence(error):
                raise
            for line in sentence(error).splitlines():
                click.echo(f"ivit: {line}", err=True)
            sys.exit(BAD_INPUT)


def _epilog() -> str:
    """The parameters of every notebook, for `ivit run --help`."""
    kinds: dict[str, type[Parameters]] = {"every notebook": Parameters, **MODEL_NOTEBOOKS}
    parts = []
    for title, kind in kinds.items():
        lines = [
            f"  {name}={default}\n      {description}"
            for name, default, description in described(kind)
            if kind is Parameters or name not in Parameters.model_fields
        ]
        parts.append("\n".join([f"\b\nParameters of {title}", *lines]))
    return "\n\n".join(parts)


@click.group(cls=OneHandler)
@click.version_option(package_name="ivit-helpers")
def main() -> None:
    """Smoke, benchmark, accuracy and explore reports for InternViT on this machine's accelerator."""
    os.environ.pop("MPLBACKEND", None)  # an unknown name would end matplotlib's import
    for stream in (sys.stdout, sys.stderr):  # what the terminal's encoding lacks must not end a run
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@main.command(epilog=_epilog())
@NOTEBOOKS
@PARAMETERS
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run. [reports/<UTC time>-<model>-<device>]")
@click.option(
    "--cell-timeout",
    type=click.IntRange(1),
    metavar="SECONDS",
    help="Stop a cell that takes longer. [hours, by the work]",
)
def run(notebooks: tuple[str, ...], given: tuple[str, ...], out: Path | None, cell_timeout: int | None) -> None:
    """Run notebooks (all four when none is named) and leave HTML reports.

    Exit codes: 0 no check failed, 1 a check failed or a notebook did not finish, 2 bad parameters and nothing was
    started, 3 a card or a process ended early and the command that is printed goes on, 130 stopped by Ctrl-C, 143 by
    SIGTERM.
    """
    names = tuple(dict.fromkeys(notebooks)) or ALL
    pairs = parse(given)
    if out and "out" in pairs:
        raise InputError("--out and -p out= mean the same thing: give one of them.")
    place = this_place()
    if place and SHARED not in names:
        raise InputError(
            f"torchrun has started {place.processes} processes, and only {SHARED} can share its work out: start the "
            "others without torchrun."
        )
    if place and place.rank:
        import_module(f"ivit_helpers.{SHARED}.worker").join(place)
        return
    chosen = share_out(names, pairs | ({"out": str(out)} if out else {}))
    problems, images = _examined(chosen)
    if problems:
        raise problems[0]
    _check_device(chosen)
    limits = {name: cell_timeout or parameters.longest_cell_s(images[name]) for name, parameters in chosen.items()}
    sys.exit(_run(chosen, RunFolder(chosen[names[0]]), limits))


def _run(chosen: Mapping[str, AnyParameters], folder: RunFolder, limits: Mapping[str, int]) -> int:
    """Run notebooks one after another in their folder; returns the exit code. limits: seconds of one cell of each."""
    from ivit_helpers.report.ending import stoppable
    from ivit_helpers.report.execute import run_notebook
    from ivit_helpers.report.progress import tell

    if folder.set_aside:
        click.echo(f"What an earlier run left in {folder.path} is now in {folder.set_aside}.", err=True)
    failed = interrupted = False
    with stoppable() as stop:
        try:
            for number, (name, parameters) in enumerate(chosen.items(), 1):
                tell(f"[{number}/{len(chosen)}] {name} …\n", sys.stderr)
                record = run_notebook(name, parameters, folder.path, stop, limits[name])
                failed |= record.status in {"failed", "incomplete"}
                interrupted |= record.status == "incomplete" and bool(record.resume)
                page = Path(os.path.relpath(folder.path / f"{name}.html"))
                shown = page.resolve() if ".." in page.parts else page
                tell(f"{SYMBOLS[record.status]} {name}: {record.verdict} {shown}\n", sys.stdout)
                if stop.signal:
                    break
        except (Stopped, InputError, OSError) as error:
            tell(f"ivit: {error}\n", sys.stderr)
            failed = True
        finally:
            folder.close()
    return 128 + stop.signal if stop.signal else INTERRUPTED if interrupted else int(failed)


@main.command()
@NOTEBOOKS
@PARAMETERS
def check(notebooks: tuple[str, ...], given: tuple[str, ...]) -> None:
    """Say what device a run would use, and everything that would keep it from running; nothing is loaded.

    Without a notebook, the first that knows all the given parameters is checked. Exit code 2 when a run cannot start.
    """
    pairs = parse(given)
    knowing = [name for name in ALL if pairs.keys() <= MODEL_NOTEBOOKS[name].model_fields.keys()]
    names = notebooks or knowing[:1] or ALL
    chosen = share_out(names, pairs)
    problems, _ = _examined(chosen)
    try:
        click.echo(_select(chosen[names[0]]))
    except InputError as error:
        problems.append(error)
    if problems:
        raise InputError("\n".join(dict.fromkeys(map(str, problems))))


@main.command()
@click.argument("runs", nargs=-1, metavar="RUN RUN...")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the comparison. [reports/<UTC time>-compare]")
def compare(runs: tuple[str, ...], out: Path | None) -> None:
    """Put runs side by side and leave an HTML report: what is different, and what got faster, slower, worse.

    A RUN is a run's folder, its record (.json) or its page (.html). The others are compared with the first. Exit codes:
    0 nothing got worse, 1 something got worse or the comparison did not finish, 2 bad input and nothing was started.
    """
    parameters = validate(CompareParameters, {"runs": list(runs), "out": str(out or "")})
    check_folder(parameters)
    import_module("ivit_helpers.compare").check_inputs(parameters)
    sys.exit(_run({"compare": parameters}, RunFolder(parameters), {"compare": parameters.longest_cell_s(0)}))


@main.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--lang", "language", type=click.Choice(["en", "zh"]), default="en", help="Language of the card. [en]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="File for the card. [the terminal]")
def card(runs: tuple[str, ...], language: "Language", out: Path | None) -> None:
    """Write the model card of runs of one model, in Markdown: what they measured, and nothing else.

    A RUN is a run's folder, its record (.json) or its page (.html). Exit codes: 0 written, 2 bad input.
    """
    from ivit_helpers.model_card.card import model_card

    text = model_card(runs, language)
    if out:
        write_whole(out, text)
    else:
        click.echo(text, nl=False)


@main.command()
def schema() -> None:
    """Print the JSON schema of a run's record."""
    click.echo(json.dumps(json_schema(), indent=1, ensure_ascii=False))


def _examined(chosen: Mapping[str, Parameters]) -> tuple[list[InputError], dict[str, int]]:
    """What is wrong with the inputs, and how many images each notebook has. Reads no weights and no pixels."""
    from ivit_helpers.weights import sources

    problems: list[InputError] = []
    images = dict.fromkeys(chosen, 0)
    for names in dict.fromkeys((parameters.model, getattr(parameters, "head", "")) for parameters in chosen.values()):
        try:
            sources.check(*names)
        except InputError as error:
            problems.append(error)
    for name, parameters in chosen.items():
        try:
            check_folder(parameters)
        except InputError as error:
            problems.append(error)
        try:
            images[name] = import_module(f"ivit_helpers.{name}").check_inputs(parameters) or 0
        except InputError as error:
            problems.append(error)
    return problems, images


def _check_device(chosen: Mapping[str, Parameters]) -> None:
    """Find what the device cannot do, before a kernel starts. A driver that this would start gets a process of its own.

    chosen: of all notebooks of the run, which share model, device and dtype; some may take several devices.
    """
    from ivit_helpers.device import selection

    parameters = max(chosen.values(), key=lambda one: bool(_devices(one)))
    devices = _devices(parameters)
    if not selection.may_start_a_driver(parameters.device, devices):
        _select(parameters)
        return
    words = [f"-p{name}={getattr(parameters, name)}" for name in ("model", "device", "dtype")]
    line = [sys.executable, "-m", "ivit_helpers", "check", "benchmark", *words, f"-pdevices={devices}"]
    code = subprocess.run(line, stdout=subprocess.DEVNULL, check=False).returncode
    if code == BAD_INPUT:
        sys.exit(BAD_INPUT)  # the sentence is on the standard error stream
    if code:
        raise InputError(f"{devices or parameters.device} cannot be started: a process that tried ended with {code}.")


def _devices(parameters: Parameters) -> str:
    """The `devices` parameter; empty for a notebook that has none."""
    return str(getattr(parameters, "devices", ""))


def _select(parameters: Parameters) -> str:
    """The device that a run would use, named, after all that can be asked of it without loading anything."""
    from ivit_helpers.device import device, selection, several
    from ivit_helpers.weights import loading, sources

    devices = _devices(parameters)
    chosen = selection.select(parameters.device, devices)
    dtype = chosen.dtype(parameters.dtype)
    if not sources.is_hub_id(parameters.model):  # what is not here yet is measured once it is
        loading.check_memory(sources.find(parameters.model), chosen, dtype)
    others: Sequence[str] = several.named_devices(devices, parameters.device)[1:] if devices else ()
    return f"{chosen}, {device.dtype_name(dtype)}{', and ' if others else ''}{', '.join(others)}"


if __name__ == "__main__":
    main()
