"""The command group `audit`: whether generators and language models make what captions say."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from polygen_stream.base.errors import UserError
from polygen_stream.cli.arguments import WITH_OVERRIDES, config_of, console, given_options

HELP = "Grade images of generators (default) or hard negatives of language models."


class _Group(TyperGroup):
    """Runs `generators` where no subcommand is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        named = args[:1] == ["--help"] or (args and args[0] in self.list_commands(ctx))
        return super().parse_args(ctx, args if named else ["generators", *args])


app = typer.Typer(cls=_Group, help=HELP)


@app.command(**WITH_OVERRIDES)
def generators(
    context: typer.Context,
    images: Annotated[int, typer.Option(min=28, help="Images per generator and kind of question.")] = 1000,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    as_json: Annotated[Path | None, typer.Option("--json", help="Also write every figure to this file.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw quadrant, spectra and edits into this file (.png, .svg).")
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Also draw captions beside each generator's images into this file.")
    ] = None,
) -> None:
    """Grade the micro generators of a config: an oracle reads their images back.

    CONFIG is a TOML file or the name of a preset (default: micro). Its generators must draw the micro world (32x32).
    """
    from polygen_stream.audit.audit import audit_all

    audit_all(config_of(context), images, threads, as_json, plot, samples, console())


@app.command()
def captions(
    context: typer.Context,
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN|JOURNAL]", help="A run folder or its journal.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option("--n", min=1, help="Hard negatives to judge.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of hard negatives.")] = 0,
    out: Annotated[Path, typer.Option(metavar="FILE", help="File of the page.")] = Path("audit-captions.html"),
    read: Annotated[
        Path | None,
        typer.Option(
            metavar="VERDICTS",
            help="Print the accuracy of verdicts that the page saved; takes nothing else.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Judge the hard negatives of a run by eye.

    Writes a page on which a person says of each whether it is right. The page shows the accuracy with its 95 % Wilson
    interval and saves the verdicts; --read prints them per axis. The page is one file and needs no network.
    """
    if read is not None:
        others = [option for option in given_options(context) if option != "--read"]
        if run is not None or others:
            unused = ", ".join([*map(str, filter(None, [run])), *others])
            raise UserError(f"--read {read} prints saved verdicts and takes nothing else: leave {unused} out")
        return _show_verdicts(read)
    if run is None:
        raise UserError("name a run folder or its journal.jsonl, or --read the verdicts that a page saved")
    from polygen_stream.audit.verdict_page import verdict_page
    from polygen_stream.audit.verdicts import journal_of, sample_questions

    questions = sample_questions(journal_of(run), count, seed)
    page = verdict_page(questions, f"{len(questions)} hard negatives of {run.resolve().name}, seed {seed}")
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as problem:
        raise UserError(f"cannot write {out}: {problem.strerror}; choose another --out") from None
    print(f"{len(questions)} hard negatives in {out}: open it in a browser", file=sys.stderr)


def _show_verdicts(file: Path) -> None:
    from polygen_stream.audit.verdicts import accuracy, read_verdicts
    from polygen_stream.audit.view import verdict_table

    console().print(verdict_table(accuracy(read_verdicts(file))))
