"""polygen-stream audit ...: the command group. Imports what it audits with only when it audits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.core import TyperGroup

from polygen_stream.base.errors import UserError
from polygen_stream.config import load_config, parse_overrides, split_config_name


class _Group(TyperGroup):
    """Without a subcommand, `generators`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        named = args[:1] == ["--help"] or (args and args[0] in self.list_commands(ctx))
        return super().parse_args(ctx, args if named else ["generators", *args])


app = typer.Typer(cls=_Group, help="Grade what generators and language models make.")


@app.callback()
def audit() -> None:
    """Grade what generators and language models make; without a command, `generators`."""


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    options_metavar="[CONFIG] [--section.key VALUE]... [OPTIONS]",
)
def generators(
    context: typer.Context,
    pictures: Annotated[int, typer.Option(min=28, help="Pictures per generator and kind of question.")] = 1000,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write every figure to this file.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw quadrant, spectra and edits into this file.")] = None,
    samples: Annotated[Path | None, typer.Option(help="Draw captions x generators into this file.")] = None,
) -> None:
    """Grade the micro generators of a config: an oracle reads their pictures back.

    CONFIG is a TOML file or the name of a preset, the micro preset by default. Its generators must draw the micro
    world (32x32).
    """
    config_name, words = split_config_name(context.args)
    config = load_config(
        config_name, parse_overrides(words, other_options=("pictures", "threads", "json", "picture", "samples", "help"))
    )
    from polygen_stream.audit.audit import audit_all

    audit_all(config, pictures, threads, as_json, picture, samples, Console(highlight=False))


@app.command()
def captions(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN|JOURNAL]", help="A run folder or its journal.", show_default=False)
    ] = None,
    count: Annotated[int, typer.Option("--n", min=1, help="Hard negatives to judge.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Which ones.")] = 0,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the page goes.", show_default=True)] = Path(
        "audit-captions.html"
    ),
    read: Annotated[
        Path | None,
        typer.Option(
            metavar="VERDICTS", help="Print the accuracy of verdicts that the page saved.", show_default=False
        ),
    ] = None,
) -> None:
    """Judge the hard negatives of a run by eye.

    Writes a page on which a person says of each whether it is right, which shows the accuracy with its 95 % Wilson
    interval and saves the verdicts; --read prints them per axis. The page is one file and needs no network.
    """
    from polygen_stream.audit.verdicts import accuracy, journal_of, read_verdicts, sample_questions

    if read is not None:
        from polygen_stream.audit.view import verdict_table

        return Console(highlight=False).print(verdict_table(accuracy(read_verdicts(read))))
    if run is None:
        raise UserError("name a run folder or its journal.jsonl, or --read the verdicts that a page saved")
    from polygen_stream.audit.verdict_page import verdict_page

    questions = sample_questions(journal_of(run), count, seed)
    page = verdict_page(questions, f"{len(questions)} hard negatives of {run.resolve().name}, seed {seed}")
    try:
        out.write_text(page, encoding="utf-8")
    except OSError as problem:
        raise UserError(f"cannot write {out}: {problem.strerror}; choose another --out") from None
    print(f"{len(questions)} hard negatives in {out}: open it in a browser", file=sys.stderr)
