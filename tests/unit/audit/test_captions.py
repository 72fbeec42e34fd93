"""The audit of hard negatives by people: what is asked, the page in a browser, and what verdicts add up to."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from polygen_stream.analyze.interval import proportion_with_interval
from polygen_stream.audit.verdict_page import marked, verdict_page
from polygen_stream.audit.verdicts import Question, Verdict, accuracy, read_verdicts, sample_questions
from polygen_stream.base.errors import UserError
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.journal import CaptionJournal, JournalEntry
from polygen_stream.cli.audit import app
from polygen_stream.schedule.ledger import CaptionTask

AXES = ["colour"] * 5 + ["count"] * 3 + ["cause"] * 2
HOSTILE = '</script><img src="x" onerror="alert(1)"> & "quotes" {{ title }}'
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def journal(tmp_path) -> Path:
    """1,000 tasks: every second one has a hard negative, every tenth was dropped."""
    path = tmp_path / "journal.jsonl"
    entries = []
    for number in range(1000):
        task = CaptionTask(number, "dog", AXES[number // 2 % 10], 0, (0,), (0,))
        pair = Caption(f"a red dog at {number}", f"a blue dog at {number}", task.axis)
        outcome = Dropped(("caption: endless",)) if number % 10 == 7 else pair if number % 2 else Caption("a dog")
        entries.append(JournalEntry(task, bool(number % 2), outcome))
    return written(path, entries)


def written(path: Path, entries: list[JournalEntry]) -> Path:
    journal = CaptionJournal(path)
    journal.record_provenance({"bank": "english"})
    journal.write(entries)
    journal.close()
    return path


def test_questions_are_hard_negatives_with_each_axis_at_its_share(journal):
    asked = sample_questions(journal, 100, seed=3)
    assert len({q.task for q in asked}) == 100 and [q.task for q in asked] == sorted(q.task for q in asked)
    assert all(q.task % 2 and q.task % 10 != 7 for q in asked)
    there = Counter(AXES[n // 2 % 10] for n in range(1, 1000, 2) if n % 10 != 7)
    for axis, count in Counter(q.axis for q in asked).items():
        assert count == pytest.approx(100 * there[axis] / there.total(), abs=1)
    assert {q.category for q in asked if q.axis == "cause"} == {"replace_rel"}


def test_which_are_asked_follows_from_the_seed(journal):
    first, again, other = (sample_questions(journal, 50, seed) for seed in (1, 1, 2))
    assert first == again and first != other
    assert len(sample_questions(journal, 10_000, 1)) == 400  # all there are


def test_a_journal_without_hard_negatives_is_one_line(tmp_path):
    path = written(
        tmp_path / "journal.jsonl",
        [JournalEntry(CaptionTask(0, "dog", "colour", 0, (0,), (0,)), False, Caption("a dog"))],
    )
    with pytest.raises(UserError, match="has no hard negatives"):
        sample_questions(path, 10, 0)


@pytest.mark.parametrize(
    ("caption", "negative", "first", "second"),
    [
        ("A red dog.", "A blue dog.", ["red"], ["blue"]),
        ("a dog on a sofa", "a dog and a cat on a sofa", [], ["and a cat"]),
        ("a man carries a dog", "a dog carries a man", ["man", "dog"], ["dog", "man"]),
        ("a dog", "a dog", [], []),
    ],
)
def test_what_changed_is_marked(caption, negative, first, second):
    pieces = marked(caption, negative)
    assert [[words for words, changed in side if changed] for side in pieces] == [first, second]
    assert [" ".join(words for words, _ in side) for side in pieces] == [caption, negative]


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.marks, self.text, self._in = Counter(), [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags[tag] += 1
        self.attributes += [(tag, *attribute) for attribute in attributes]
        self._in.append(tag)

    def handle_endtag(self, tag):
        while self._in and self._in.pop() != tag:
            pass

    def handle_data(self, data):
        if self._in and self._in[-1] == "mark":
            self.marks.append(data)
        self.text.append((self._in[-1] if self._in else "", data))

    @property
    def asked(self) -> dict:
        return json.loads(next(data for tag, data in self.text if data.startswith('{"')))


def questions(count: int) -> list[Question]:
    return [Question(i, AXES[i % 10], "replace_att", "dog", f"a red dog {i}", f"a blue dog {i}") for i in range(count)]


def test_the_page_is_one_file_without_anything_from_elsewhere():
    page = Page(verdict_page(questions(20), "20 hard negatives"))
    assert page.tags["article"] == 20 and page.marks == ["red", "blue"] * 20
    assert page.tags["link"] == page.tags["img"] == page.tags["iframe"] == 0
    assert not [a for a in page.attributes if a[1] in ("src", "href", "action", "data")]
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp", verdict_page(questions(3), "3"))
    assert ("meta", "http-equiv", "Content-Security-Policy") in page.attributes
    assert len(page.asked["questions"]) == 20 and page.asked["questions"][3]["negative"] == "a blue dog 3"


def test_captions_cannot_leave_their_place_in_the_page():
    page = Page(verdict_page([Question(0, "colour", "replace_att", HOSTILE, HOSTILE, f"blue {HOSTILE}")], HOSTILE))
    assert page.tags["img"] == 0 and page.tags["script"] == 2
    [asked] = page.asked["questions"]
    assert asked["concept"] == asked["caption"] == HOSTILE and page.asked["title"] == HOSTILE


def in_browser(html: str, script: str, folder: Path) -> str:
    """What `script` put into `said` at the end of the page, in a headless browser."""
    script = f"<script>const said = []; {script}; document.body.dataset.said = JSON.stringify(said);</script></body>"
    (folder / "page.html").write_text(html.replace("</body>", script))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    done = subprocess.run(
        [*command, "--dump-dom", (folder / "page.html").as_uri()], capture_output=True, text=True, timeout=120
    )
    [said] = [value for tag, name, value in Page(done.stdout).attributes if (tag, name) == ("body", "data-said")]
    return json.loads(said)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_keys_judge_and_what_is_saved_is_read_back(tmp_path):
    asked = questions(12)
    keys = (
        "rrwrjrwkuw"  # 0 1 right, 2 wrong, 3 right, 4 left out, 5 right, 6 wrong, back to 6, undecided, wrong; 7.. open
    )
    script = f"""
        for (const key of "{keys}") document.dispatchEvent(new KeyboardEvent("keydown", {{ key }}));
        document.querySelectorAll("article")[9].querySelector("[data-says=true]").click();
        document.dispatchEvent(new KeyboardEvent("keydown", {{ key: "w", ctrlKey: true }}));
        said.push(document.getElementById("accuracy").textContent, asJson(), asCsv(),
                  [...document.querySelectorAll("article")].map(article => article.className),
                  [...document.querySelectorAll("#axes tr")].map(row => row.textContent))"""
    text, as_json, as_csv, classes, axes = in_browser(verdict_page(asked, '12, "a"'), script, tmp_path)

    expected = [True, True, False, True, None, True, False, None, None, True, None, None]
    found = proportion_with_interval(np.array([float(v) for v in expected if v is not None]))
    shown = f"5 of 7 right: {found['share']:.1%} [{found['low']:.1%}, {found['high']:.1%}], 5 to go"
    assert text == shown.replace("%", " %")
    assert [c.split()[-1] if c else None for c in classes] == [
        {True: "right", False: "wrong"}.get(v) for v in expected[:10]
    ] + ["now", None]
    assert [row[:6] for row in axes] == ["cause1", "colour", "count1"]

    for name, content in (("v.json", as_json), ("v.csv", as_csv)):
        (tmp_path / name).write_text(content, newline="")
        assert read_verdicts(tmp_path / name) == [
            Verdict(q.axis, right) for q, right in zip(asked, expected, strict=True) if right is not None
        ]


def cli(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "polygen_stream", "audit", "captions", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120)


@pytest.mark.extended
def test_the_command_writes_the_page_and_reads_verdicts(journal, tmp_path):
    done = cli(str(tmp_path), "--n", "30", "--out", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = Page((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert page.tags["article"] == 30 and "30 hard negatives in page.html" in done.stderr

    verdicts = [{"axis": "colour", "right": i < 8} for i in range(10)] + [{"axis": "count", "right": None}]
    (tmp_path / "verdicts.json").write_text(json.dumps({"verdicts": [*verdicts, {"axis": "cause", "right": True}]}))
    done = cli("--read", "verdicts.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {line.split("│")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("│")}
    assert "80.0 [49.0, 94.3]" in rows["colour"]  # Wilson's formula for 8 of 10 at z = 1.96
    assert "81.8 [52.3, 94.9]" in rows["all"] and "100.0 [20.6, 100.0]" in rows["cause"]
    assert "count" not in rows


def test_accuracy_is_wilsons():
    found = accuracy([Verdict("size", i < 74) for i in range(100)])
    assert found["size"] == found["all"] == {"share": 0.74, "low": 0.6463, "high": 0.8160, "n": 100}


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["nosuch"], ["nosuch", "does not exist"]),
        (["."], ["journal.jsonl", "does not exist"]),
        (["bad.jsonl"], ["bad.jsonl line 1", "not an entry"]),
        ([], ["run folder"]),
        (["--read", "nosuch.json"], ["nosuch.json", "there is no file of verdicts"]),
        (["--read", "bad.jsonl"], ["bad.jsonl", "holds no verdicts"]),
        (["--read", "bytes.csv"], ["bytes.csv", "is not UTF-8: line 2, byte 8"]),
        (["--read", "open.json"], ["open.json", "nothing of it was judged"]),
        (["good.jsonl", "--out", "none/page.html"], ["none/page.html", "--out"]),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, words, parts):
    (tmp_path / "bad.jsonl").write_text("[3]\n")
    (tmp_path / "bytes.csv").write_bytes(b"axis,right\ncolour,\xff\n")
    (tmp_path / "open.json").write_text('{"verdicts": [{"axis": "colour", "right": null}]}')
    pair = Caption("a red dog", "a blue dog", "colour")
    written(tmp_path / "good.jsonl", [JournalEntry(CaptionTask(0, "dog", "colour", 0, (0,), (0,)), True, pair)])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        app(["captions", *words], standalone_mode=False)
    message = str(caught.value)
    assert "\n" not in message and all(part in message for part in parts), message
