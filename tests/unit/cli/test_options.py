"""Options that have no use together are refused, before anything is read or written."""

from __future__ import annotations

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.cli import app


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("report one --out x.html", "--out has no use with one run, whose report is one/report.html"),
        ("report one two --query cat", "--query is of the report of one run, and here are 2"),
        ("report one two --device cpu", "--device is of the report of one run, and here are 2"),
        ("run --nodes 2", "--nodes 2 without --node: give the index of this node, 0 to 1"),
        ("run --nodes 2 --rendezvous host:29500", "--nodes 2 without --node"),
        ("run --accept-license sai-nc-community", "--accept-license is for weights that --prepare fetches"),
        ("run --gpus 8xH100-80G", "--gpus 8xH100-80G is for planning: add --dry-run"),
        ("run --ring.mode replay --dry-run", "ring.mode = 'replay' needs the batches of an earlier run"),
        ("run --source folder", "--source folder: write shards:DIR"),
        ("run --resume auto --node 0", "--resume auto takes no config, override or option but --dashboard, and "
                                       "here are --node"),
        ("run --resume runs/x --gpus 8xH100-80G", "and here are --gpus"),
        ("run --resume runs/x micro --train.steps 5", "and here are micro, --train.steps, 5"),
        ("inspect ring --count 3", "--count is of the grid that --images FILE.png writes"),
        ("inspect ring --images grid.jpg", "--images grid.jpg: the grid is a PNG file"),
        ("analyze run --pretrained w.pt", "--pretrained has no use without --reference MODEL"),
        ("experiment table1 --page --jobs 3 --pools p", "--pools and --jobs cannot be used with --page"),
        ("build-engines --list --verify", "--list and --verify exclude each other"),
        ("build-engines --dry-run --collect", "--dry-run and --collect exclude each other"),
        ("build-engines micro/sd15 --list --jobs 2", "--list is about the whole cache and takes nothing else: leave "
                                                     "micro/sd15, --jobs out"),
        ("build-engines --verify --backend onnxruntime", "--verify is about the whole cache"),
        ("build-engines --collect --force", "--force cannot be used with --collect, which builds nothing"),
        ("build-engines --dry-run --accept-difference fine", "--accept-difference cannot be used with --dry-run"),
        ("build-engines --accept-difference=", "--accept-difference wants a reason in words"),
        ("plan --gpus 8 --steps 9 --images 9", "--steps 9 and --images 9 are two budgets"),
        ("simulate --against runs/x --gpus 8", "--against runs/x takes no config, override or option, and here are "
                                               "--gpus"),
        ("simulate paper --against runs/x", "and here are paper"),
        ("audit captions run --read verdicts.json", "--read verdicts.json prints saved verdicts and takes nothing "
                                                    "else: leave run out"),
        ("audit captions --read verdicts.json --n 5", "leave --n out"),
        ("concepts filter micro --out bank.json --wordnet w", "--wordnet has no use without --drawable"),
        ("bench ring --reverb-python python", "--reverb-python has no use without --baselines"),
        ("bench all --tolerance 0.2", "--tolerance has no use without --compare"),
    ],
)  # fmt: skip
def test_options_without_use_are_refused(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as refused:
        app(words.split(), standalone_mode=False)
    assert message in str(refused.value)
    assert not list(tmp_path.iterdir())
