"""The command group `concepts`: banks of concepts that captions are about."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polygen_stream.base.errors import UserError
from polygen_stream.cli.arguments import refuse_options

if TYPE_CHECKING:
    from polygen_stream.captions.banks.wordnet import WordNet

app = typer.Typer(help="Build, filter and count concept banks.", no_args_is_help=True)

Blocklist = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Words and phrases to leave out, one a line.", show_default=False)
]
Wordnet = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder of WordNet's files (default: /usr/share/wordnet).", show_default=False),
]
Drawable = Annotated[bool, typer.Option("--drawable", help="Keep only nouns that an image can show.")]
Out = Annotated[Path, typer.Option(metavar="FILE", help="File of the bank, a JSON list of strings.")]


@app.command()
def build(
    out: Out,
    wordnet: Wordnet = None,
    titles: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File of titles, e.g. of Wikipedia, one a line, the most viewed first."),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Entries before filtering.")] = 500_000,
    blocklist: Blocklist = None,
    drawable: Drawable = False,
) -> None:
    """Build an open bank of the kind of MetaCLIP's: WordNet synsets, words, bigrams and titles."""
    from polygen_stream.captions.banks.concepts import read_lines
    from polygen_stream.captions.banks.open_bank import build_open_bank

    files = _wordnet(wordnet)
    bank = build_open_bank(files, read_lines(titles, "titles") if titles else (), size)
    for name, count in bank.components.items():
        _say(f"{count:>9,} {name}")
    _filter_and_save(bank.entries, out, blocklist, wordnet, drawable)


@app.command("filter")
def filter_bank(
    context: typer.Context,
    bank: Annotated[str, typer.Argument(help="A bank's path or URL, or micro.", show_default=False)],
    out: Out,
    wordnet: Wordnet = None,
    blocklist: Blocklist = None,
    drawable: Drawable = False,
) -> None:
    """Filter a bank, e.g. MetaCLIP's metadata.json: names only, no blocked words, drawable nouns."""
    if not drawable:
        refuse_options(context, ["--wordnet"], "has no use without --drawable: add that, or leave it out")
    from polygen_stream.captions.banks.concepts import load_bank

    _filter_and_save(load_bank(bank), out, blocklist, wordnet, drawable)


@app.command()
def report(
    bank: Annotated[str, typer.Argument(help="A bank's path or URL, or micro.", show_default=False)],
    captions: Annotated[
        Path, typer.Argument(help="Captions, one a line, or a run's journal.jsonl.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
) -> None:
    """Count how often captions name the entries of a bank."""
    from polygen_stream.captions.banks.concepts import load_bank
    from polygen_stream.captions.selection.frequencies import count_concepts

    found = count_concepts(load_bank(bank), _captions_in(captions)).to_json()
    if as_json:
        print(json.dumps(found))
        return
    print(f"{found['captions']:,} captions, {found['unmatched']:,} name no entry")
    print(f"{found['named']:,} of {found['entries']:,} entries named, {found['matches_per_caption']} a caption")
    for least, count in found["entries_named_at_least"].items():
        print(f"{count:>9,} entries in at least {int(least):,}")
    for entry, count in found["top"]:
        print(f"{count:>9,} {entry}")


def _captions_in(file: Path) -> Sequence[str]:
    from polygen_stream.captions.banks.concepts import read_lines
    from polygen_stream.captions.base import Caption
    from polygen_stream.captions.journal import read_journal

    if file.suffix == ".jsonl" and file.exists():
        return [entry.outcome.text for entry in read_journal(file) if isinstance(entry.outcome, Caption)]
    return read_lines(file, "captions")


def _filter_and_save(
    entries: Sequence[str], out: Path, blocklist: Path | None, wordnet: Path | None, drawable: bool
) -> None:
    from polygen_stream.captions.banks.concept_filters import ConceptFilter
    from polygen_stream.captions.banks.concepts import read_lines, save_bank

    blocked = read_lines(blocklist, "blocklist") if blocklist else ()
    kept, refused = ConceptFilter(blocked, _wordnet(wordnet).drawable() if drawable else None).keep(entries)
    if not kept:
        [(reason, count)] = refused.most_common(1)
        raise UserError(f"no entry passed the filters ({count:,} times: {reason}): loosen them")
    for reason, count in refused.most_common():
        _say(f"{-count:>9,} {reason}")
    save_bank(kept, out)
    _say(f"{len(kept):>9,} entries in {out}")


def _wordnet(folder: Path | None) -> WordNet:
    from polygen_stream.captions.banks.wordnet import DEBIAN, WordNet

    return WordNet(folder or DEBIAN)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
