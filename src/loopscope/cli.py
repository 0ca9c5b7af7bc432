"""The command line: `loopscope show train.py`, `run train.py`, `report run.loop`, `events keras`, `demo`.

Constraint: the user's program runs outside of click, which would turn its Ctrl-C into "Aborted!".
"""

from __future__ import annotations

import functools
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TextIO

import click

from loopscope import __version__, api
from loopscope.api import (
    CHECK_FORMATS,
    DIFF_FORMATS,
    FORMATS,
    MOMENT_FORMATS,
    SAVE_FORMATS,
    SORTS,
    Call,
    Program,
    Recorded,
    Spec,
    first_fit,
    raised_by_program,
)
from loopscope.errors import LoopscopeError

DEMO = Path(__file__).parent / "demos" / "fastai_learner.py"
DEMO_RUNS = ("fit", "fit_one_cycle", "fine_tune", "validate", "get_preds", "lr_find")
BROKEN_PIPE = 141
"""The exit status where nobody reads the output any more, as a shell reports a command that SIGPIPE ended."""

STOPPED = "{call.place}: stopped here, before {call.method} ran."
DEMO_NEXT = """
Type next: loopscope show train.py          the same for your own script, up to its first fit
           loopscope check train.py         what is wrong with its callbacks, before it runs
           loopscope run train.py           your script to its end, and what each callback cost
           loopscope demo --run fine_tune   another run; --verbose says what each callback does, and where"""
FAULT = "this is a fault of loopscope and not of the script. Please report it with the lines above."

HELP = {"help_option_names": ["-h", "--help"]}


def main() -> NoReturn:
    """Run the command line of this process and leave with its exit status."""
    try:
        plan = loopscope.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except LoopscopeError as error:
        _fail(error)
    if callable(plan):
        plan()
        sys.exit(0)
    sys.exit(plan)  # --help and --version


def _fail(error: LoopscopeError) -> NoReturn:
    click.echo(f"Error: {error}", err=True)
    sys.exit(error.exit_code)


@click.group(context_settings=HELP)
@click.version_option(__version__, "-V", "--version", message="loopscope %(version)s")
def loopscope() -> None:
    """See what a callback-driven training loop will run, before the first batch, and what it did run."""


class ScriptCommand(click.Command):
    """A command whose own long options are also understood behind the script, up to a `--`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        given = options.get("target")
        target = list(given) if isinstance(given, tuple) else []  # click 8.3 has an object of its own for "not given"
        before = args[: len(args) - len(target)]
        if target and before[-1:] != ["--"]:
            own, theirs = self._split(target[1:])
            args = [*before, *own, "--", target[0], *theirs]
        return super().parse_args(ctx, args)

    def _split(self, tokens: list[str]) -> tuple[list[str], list[str]]:
        """Return what is loopscope's and what is the script's among the arguments behind the script."""
        options = {name: one for one in self.params if isinstance(one, click.Option) for name in one.opts}
        own: list[str] = []
        theirs: list[str] = []
        while tokens:
            token = tokens.pop(0)
            name, equals, _ = token.partition("=")
            option = options.get(name) if name.startswith("--") else None
            if token == "--":
                return own, theirs + tokens
            if option is None or (option.is_flag and equals):
                theirs.append(token)
                continue
            click.echo(f"{name} was read as loopscope's; put -- before the script's own arguments.", err=True)
            own.append(token)
            if not option.is_flag and not equals:
                own.append(_value(name, tokens))
        return own, theirs


def _value(option: str, tokens: list[str]) -> str:
    if not tokens or tokens[0] == "--":
        raise click.BadOptionUsage(option, f"Option {option!r} requires an argument.")
    return tokens.pop(0)


@dataclass(frozen=True, slots=True)
class Output:
    """Where the map goes and how it looks; what can be wrong with that is said before a script runs."""

    format: str | None
    file: Path | None = None
    force: bool = False
    verbose: bool = False

    @classmethod
    def checked(cls, format: str | None, file: str | None, force: bool, verbose: bool) -> Output:
        if file is None:
            return cls(format, None, force, verbose)
        path = Path(file).absolute()  # a script may change the folder
        if path.is_dir():
            raise LoopscopeError(f"{file} is a folder. Give -o a file, for example -o {Path(file) / 'loop.md'}.")
        if not path.parent.is_dir():
            raise LoopscopeError(f"there is no folder {path.parent}. Make it first: mkdir -p {path.parent}")
        if path.exists() and not force:
            raise LoopscopeError(_exists(file))
        return cls(format or api.format_of(path, "--format"), path, force, verbose)

    def write(self, shown: api.LoopMap, stdout: TextIO) -> None:
        if self.file is None:
            shown.show(self.format or "tree", verbose=self.verbose, file=stdout)
            return
        if self.file.exists() and not self.force:  # the script wrote it in the meantime
            raise LoopscopeError(_exists(str(self.file)))
        try:
            shown.save(self.file, self.format, verbose=self.verbose, force=True)
        except OSError as error:
            raise LoopscopeError(f"{self.file} cannot be written ({error.strerror}). Give -o another file.") from None


def _exists(file: str) -> str:
    return f"{file} exists already. Add --force to overwrite it, or give -o another file."


@loopscope.command(cls=ScriptCommand, context_settings={**HELP, "allow_interspersed_args": False})
@click.option("-m", "module", is_flag=True, help="SCRIPT is a module, as after python -m.")
@click.option(
    "-f", "--format", type=click.Choice(list(FORMATS)), help="How it looks.  [default: by -o's suffix, or tree]"
)
@click.option(
    "-o", "--output", metavar="FILE", help="Write there instead of the terminal; keeps apart what the script prints."
)
@click.option("--force", is_flag=True, help="Let -o overwrite.")
@click.option("-v", "--verbose", is_flag=True, help="Add docs, effects and places.")
@click.option(
    "--cbs",
    multiple=True,
    metavar="NAME",
    help="Where would this callback land? module:Name or path/to/file.py:Name; may be repeated.",
)
@click.argument("target", nargs=-1, required=True, type=click.UNPROCESSED, metavar="SCRIPT.py [ARGS]...")
def show(  # noqa: PLR0913 - one parameter for each option
    module: bool,
    format: str | None,
    output: str | None,
    force: bool,
    verbose: bool,
    cbs: tuple[str, ...],
    target: tuple[str, ...],
) -> Callable[[], None]:
    """Show the loop that a script's first fit would run.

    SCRIPT runs exactly as python would run it, with its ARGS, until it first calls fit, fine_tune, validate or the like
    of a fastai Learner, fit, validate, test or predict of a Lightning Trainer, train, evaluate or predict of a
    Transformers Trainer, fit, evaluate or predict of a Keras Model, or run of an Ignite Engine. The loop that this very
    call would run is printed, with its epochs and its one-off callbacks, and the script is stopped there: no batch of
    it runs.

    What the script does before that call really happens, and so does what it does in `finally` blocks and exit
    handlers: files, downloads, network. It is stopped by an exception like that of sys.exit(); a script that catches
    it and comes to another such call, or that makes the call in another thread, is ended on the spot. Processes that
    it starts run as ever: a fit in one of them is neither shown nor stopped.

    \b
    Examples:
      loopscope show train.py --lr 0.1
      loopscope show -v --cbs my_callbacks:Mine train.py
      loopscope show -o loop.md -m package.train --epochs 3

    All that follows SCRIPT is the script's, except --format, --output, --force, --verbose and --cbs, unless a -- comes
    first.

    Exit status: 0 shown; 2 could not be shown; otherwise the script's own.
    """
    out = Output.checked(format, output, force, verbose)
    _no_recording(target[0], module)
    specs = [Spec.parse(one) for one in cbs]
    program = Program(target[0], target[1:], module)
    return functools.partial(_show, program, out, specs)


def _no_recording(target: str, module: bool) -> None:
    """Raise `LoopscopeError` where what is to be run as a script is a recording."""
    if not module and api.is_recording(target):
        raise LoopscopeError(
            f"{target} is a recording, not a script. Type loopscope report {target}, or loopscope check {target}."
        )


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic from click 8.4 on
    """A number of bytes: 500M, 4G, 300000000."""

    name = "size"
    UNITS: ClassVar[dict[str, int]] = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
    LEAST = 400 << 10

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(value).strip().lower())
        if match is None:
            self.fail(f"{value!r} is not a size. Type a number of bytes, or 500M, or 4G.", param, ctx)
        size = int(float(match[1]) * self.UNITS[match[2]])
        if size < self.LEAST:
            self.fail(f"{value!r} is too small to record anything. Give at least {self.LEAST >> 10}K.", param, ctx)
        return size


@loopscope.command(cls=ScriptCommand, context_settings={**HELP, "allow_interspersed_args": False})
@click.option("-m", "module", is_flag=True, help="SCRIPT is a module, as after python -m.")
@click.option("-o", "--output", metavar="FILE", help="The recording.  [default: SCRIPT.PID.loop, in this folder]")
@click.option("--force", is_flag=True, help="Let -o overwrite.")
@click.option("-q", "--quiet", is_flag=True, help="Show no summary at the end.")
@click.option(
    "--max-size",
    type=Size(),
    default=api.LIMIT,
    metavar="SIZE",
    help="Record no more than that; 400K at least.  [default: 4G]",
)
@click.argument("target", nargs=-1, required=True, type=click.UNPROCESSED, metavar="SCRIPT.py [ARGS]...")
def run(
    module: bool, output: str | None, force: bool, quiet: bool, max_size: int, target: tuple[str, ...]
) -> Callable[[], None]:
    """Run a script and record what its training loop really does.

    SCRIPT runs exactly as python would run it, with its ARGS, to its end. Every event and every handler call of every
    learner, trainer, model or engine is stamped into FILE, as it happens: after kill -9 the file still says what was
    open, and while the script runs `loopscope report FILE` in another terminal does. At the end a summary is shown on
    stderr.

    The run itself is not changed: same events, same order, same results, same exceptions. Processes that the script
    starts are not recorded. Under torchrun, ranks from 1 on write to FILE.rank1.loop and so on.

    \b
    Examples:
      loopscope run train.py --lr 0.1
      loopscope run -o run.loop -m package.train --epochs 3

    All that follows SCRIPT is the script's, except --output, --force, --quiet and --max-size, unless a -- comes first.

    Exit status: the script's own; 2 if it could not be started or recorded.
    """
    _no_recording(target[0], module)
    how = Recorded(None if output is None else Path(output), force, max_size, quiet)
    return functools.partial(_run, Program(target[0], target[1:], module), how)


def _run(program: Program, how: Recorded) -> None:
    try:
        api.run_recorded(program, how)
    except LoopscopeError as error:
        if raised_by_program(error):
            raise
        _fail(error)


@loopscope.command(context_settings=HELP)
@click.option(
    "-f", "--format", type=click.Choice(SAVE_FORMATS), help="How it looks.  [default: by -o's suffix, or text]"
)
@click.option("-o", "--output", metavar="FILE", help="Write there instead of the terminal; a trace needs it.")
@click.option("--force", is_flag=True, help="Let -o overwrite.")
@click.option("--depth", type=click.IntRange(0), metavar="N", help="Fold the tree below N levels.")
@click.option(
    "--sort", type=click.Choice(SORTS), default="tree", show_default=True, help="What orders rows side by side."
)
@click.option("--top", type=click.IntRange(0), default=10, show_default=True, help="So many of the slowest handlers.")
@click.argument("file", metavar="FILE")
def report(  # noqa: PLR0913 - one parameter for each option
    format: str | None, output: str | None, force: bool, depth: int | None, sort: str, top: int, file: str
) -> None:
    """Show a recording: how it ended, what took how long.

    FILE is what `loopscope run` or loopscope.record wrote. It may still be written to: then the first lines say which
    call is open, since when, in which epoch and batch. JSON is whole, whatever --depth, --sort and --top say.

    \b
    Examples:
      loopscope report run.loop
      loopscope report --depth 5 --sort total run.loop
      loopscope report --format trace -o trace.json run.loop    # opens in ui.perfetto.dev

    Exit status: 0 shown; 2 could not be shown.
    """
    recording = api.LoopRecording(file)
    if output is not None:
        recording.save(output, format, depth=depth, sort=sort, top=top, force=force)
    elif format == "trace":
        raise LoopscopeError("a trace goes into a file. Add -o trace.json.")
    elif format in (None, "text"):
        recording.show(depth=depth, sort=sort, top=top)
    else:
        click.echo(recording.render(format, depth=depth, sort=sort, top=top), nl=False)


LINK = re.compile(r"\[([^]]*)\]\([a-z-]+\.md\)")
"""A link to another page, which a terminal has not."""

RULES: Mapping[str, Any] = {"multiple": True, "metavar": "RULE", "callback": lambda ctx, param, value: _names(value)}


def _names(given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names in options that take several, with commas between them or one option each."""
    return tuple(name.strip() for one in given for name in one.split(",") if name.strip())


@loopscope.command(cls=ScriptCommand, context_settings={**HELP, "allow_interspersed_args": False})
@click.option("-m", "module", is_flag=True, help="SCRIPT is a module, as after python -m.")
@click.option(
    "-f", "--format", type=click.Choice(CHECK_FORMATS), default="text", show_default=True, help="How it looks."
)
@click.option("--select", help="Ask only these rules; several with commas between them.", **RULES)
@click.option("--ignore", help="Leave these rules out.", **RULES)
@click.argument(
    "target", nargs=-1, required=True, type=click.UNPROCESSED, metavar="SCRIPT.py|RUN.loop|LOOP.json [ARGS]..."
)
def check(
    module: bool, format: str, select: tuple[str, ...], ignore: tuple[str, ...], target: tuple[str, ...]
) -> Callable[[], None]:
    """Say what is wrong with a script's training loop, before it runs; or with a recording, what it cost included.

    SCRIPT runs as it does for `loopscope show`: up to its first fit-like call, and no batch of that. RUN.loop is what
    `loopscope run` wrote, LOOP.json what `loopscope show -o` did: of these only the rules are asked that read no
    source. A rule is left out where its name stands in a comment on the handler's first line, or on that
    of its class: # loopscope: ignore[RULE].

    \b
    Examples:
      loopscope check train.py --lr 0.1
      loopscope check --ignore dead-order train.py
      loopscope check run.loop
      loopscope explain dead-order

    Exit status: 0 nothing above a note; 1 findings; 2 could not be checked.
    """
    api.chosen(select, ignore)
    if not module and len(target) == 1 and api.is_file_of_ours(target[0]):
        return functools.partial(_check_file, target[0], format, select, ignore)
    program = Program(target[0], target[1:], module)
    return functools.partial(_check, program, functools.partial(_found, format, select, ignore))


def _found(format: str, select: tuple[str, ...], ignore: tuple[str, ...], call: Call, stdout: TextIO) -> int:
    checked = api.check_call(call, select, ignore)
    checked.show(format, file=stdout)
    return int(checked.failed)


def _check_file(path: str, format: str, select: tuple[str, ...], ignore: tuple[str, ...]) -> NoReturn:
    try:
        checked = api.check_file(path, select, ignore)
    except LoopscopeError as error:
        _fail(error)
    checked.show(format)
    sys.exit(int(checked.failed))


@loopscope.command(context_settings=HELP)
@click.option(
    "-f", "--format", type=click.Choice(DIFF_FORMATS), default="text", show_default=True, help="How it looks."
)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
def diff(format: str, a: str, b: str) -> int:
    """Say what differs between two loops, or between two recordings.

    A and B are loops that were saved as JSON, or recordings that `loopscope run` wrote. Shown are handlers that were
    added, removed or moved, and what those now run before or after; events, scopes and steps that differ; and, of two
    recordings, times that differ beyond their noise.

    \b
    Examples:
      loopscope show -o before.json train.py    # then change train.py
      loopscope show -o after.json train.py
      loopscope diff before.json after.json
      loopscope diff monday.loop tuesday.loop

    Exit status: 0 no differences; 1 differences; 2 could not be compared.
    """
    found = api.diff(a, b)
    found.show(format)
    return int(not found.empty)


@loopscope.command(context_settings=HELP)
@click.argument("rule", required=False, default="")
def explain(rule: str) -> None:
    """Say what a rule finds, why it matters and what to type instead; without a RULE, list all.

    \b
    Examples:
      loopscope explain
      loopscope explain dead-order

    Exit status: 0 shown; 2 for a rule that does not exist.
    """
    text = api.explain(rule)
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown(LINK.sub(r"\1", text), hyperlinks=False))
    else:
        click.echo(text, nl=False)


@loopscope.command(context_settings=HELP)
@click.option(
    "-f", "--format", type=click.Choice(MOMENT_FORMATS), default="text", show_default=True, help="How it looks."
)
@click.argument("frameworks", nargs=-1, metavar="[FRAMEWORK]...")
def events(format: str, frameworks: tuple[str, ...]) -> None:
    """Show the same moment in every framework: what each of them calls there.

    Of one FRAMEWORK alone also all its events are listed, each with what it is for; without any, all frameworks are
    shown. None of them has to be installed.

    \b
    Examples:
      loopscope events
      loopscope events fastai keras
      loopscope events lightning

    Exit status: 0 shown; 2 for a framework that loopscope does not know.
    """
    moments = api.moments(*frameworks)
    if format == "text":
        moments.show()
    else:
        click.echo(moments.render(format), nl=False)


@loopscope.command(context_settings=HELP)
@click.option("--run", type=click.Choice(DEMO_RUNS), default="fit", show_default=True, help="What the learner runs.")
@click.option("-f", "--format", type=click.Choice(list(FORMATS)), help="How it looks.  [default: tree]")
@click.option("-v", "--verbose", is_flag=True, help="Add docs, effects and places.")
def demo(run: str, format: str | None, verbose: bool) -> Callable[[], None]:
    """Show the loop of a small fastai learner.

    It learns a line from numbers that it makes up: nothing is downloaded and nothing is trained.
    """
    if find_spec("fastai") is None:
        raise LoopscopeError('the demo needs fastai, which is not installed. Type: pip install "loopscope[fastai]"')
    mine = Spec.parse("__main__:SkipWildBatch")
    return functools.partial(_show, Program(str(DEMO), (run,)), Output(format, verbose=verbose), [mine], DEMO_NEXT)


def _show(program: Program, output: Output, specs: list[Spec], closing: str = STOPPED) -> None:
    """Run `program` up to its first fit, show that, and leave with the exit status; `closing` is said after the map."""
    stderr = sys.stderr  # whatever the script does to it later

    def unmarked(why: str) -> None:
        click.echo(f"loopscope: {why}", file=stderr)

    def answer(call: Call, stdout: TextIO) -> int:
        output.write(api.called(call, [spec.load() for spec in specs] or None, unmarked), stdout)
        return 0

    _at_first_fit(program, answer, closing)


def _check(program: Program, answer: Callable[[Call, TextIO], int]) -> None:
    """Run `program` up to its first fit, check that, and leave with the answer's exit status.

    That is 2 where it came to no fit; what the program makes of its own end counts in neither case.
    """
    came: list[int] = []
    try:
        _at_first_fit(program, answer, "", "check", came.append)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, SystemExit) and came:
            sys.exit(came[0])
        if not isinstance(error, SystemExit):  # the program's own: its status, 1, would say that something was found
            sys.excepthook(type(error), error, error.__traceback__)
        sys.exit(LoopscopeError.exit_code)


def _at_first_fit(
    program: Program,
    answer: Callable[[Call, TextIO], int],
    closing: str,
    command: str = "show",
    told: Callable[[int], None] = lambda status: None,
) -> None:
    """Run `program` up to its first fit and ask `answer`, which returns the exit status; then say `closing`.

    `told` is given the status as well: the program may catch the stop and leave with one of its own.
    """
    stdout, stderr = _stdout(), sys.stderr

    def on_fit(call: Call) -> int:
        status = answered(call)
        told(status)
        return status

    def answered(call: Call) -> int:
        for stream in (sys.stdout, sys.stderr):  # what the script printed so far comes before the map
            with suppress(Exception):
                stream.flush()
        try:
            with _open(*stdout) as stream:
                status = _answered(call, answer, (stream, stderr))
            if status == 0 and closing:
                click.echo(closing.format(call=call), file=stderr)
        except (BrokenPipeError, SystemExit):  # rich turns the one into the other
            return BROKEN_PIPE
        return status

    try:
        first_fit(program, on_fit, command)
    except LoopscopeError as error:
        if raised_by_program(error):
            raise
        _fail(error)


def _answered(call: Call, answer: Callable[[Call, TextIO], int], streams: tuple[TextIO, TextIO]) -> int:
    stdout, stderr = streams
    try:
        return answer(call, stdout)
    except BrokenPipeError:
        raise
    except LoopscopeError as error:
        click.echo(f"Error: {error}", file=stderr)
        return error.exit_code
    except Exception:  # must not come up inside the script, which could take it for its own
        click.echo(f"{traceback.format_exc()}Error: {FAULT}", file=stderr)
        return LoopscopeError.exit_code


def _stdout() -> tuple[int, str]:
    """Return a descriptor of where stdout leads now, whatever the script does to it later, and its encoding."""
    try:
        return os.dup(sys.stdout.fileno()), sys.stdout.encoding
    except (AttributeError, OSError, ValueError):  # closed, or no file
        return os.open(os.devnull, os.O_WRONLY), "utf-8"


def _open(descriptor: int, encoding: str) -> TextIO:
    return open(descriptor, "w", encoding=encoding, errors="backslashreplace")
