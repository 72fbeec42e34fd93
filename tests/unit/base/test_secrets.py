"""No secret reaches a message, a log or a file."""

from __future__ import annotations

import io
import logging

import pytest

from polygen_stream.base.errors import UserError
from polygen_stream.base.secrets import HIDDEN, RedactedStream, has_credentials, redact, secret
from polygen_stream.config import load_config

KEY = "sk-example-0000-not-a-key"


@pytest.mark.parametrize("around", ["{}", "{}\n", " {}\r\n", "\ufeff{}".replace("\ufeff", "\t")])
def test_a_key_is_taken_without_what_stands_around_it(monkeypatch, around):
    monkeypatch.setenv("OPENAI_API_KEY", around.format(KEY))
    assert secret("OPENAI_API_KEY") == KEY


def test_there_may_be_none(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", " \n")
    assert secret("OPENAI_API_KEY") is None
    monkeypatch.delenv("OPENAI_API_KEY")
    assert secret("OPENAI_API_KEY") is None


@pytest.mark.parametrize(
    "inside", ["sk-one-line\nsk-two-lines", "sk-with a blank", "sk-caf\u00e9-and-more", "\ufeffsk-marked"]
)
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(monkeypatch, inside):
    monkeypatch.setenv("HF_TOKEN", inside)
    with pytest.raises(UserError, match="HF_TOKEN: character") as refused:
        secret("HF_TOKEN")
    assert "sk-" not in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (f"Illegal header value b'Bearer {KEY}\\n'", "Illegal header value"),
        (f"the key is {KEY}.", "the key is"),
        ("http://me:hunter22@proxy:3128 refuses", "proxy:3128 refuses"),
        ("http://me:hunter22@[::1 is no address", "is no address"),
        ("https://host/v1?api_key=hunter22&x=1", "&x=1"),
        ("headers={'Authorization': 'Basic aHVudGVyMjI='}", "headers="),
        ("authorization: Bearer hunter22hunter22", "authorization"),
        (r"b'sk-first-half\nsk-other-half'", "b'"),
    ],
)
def test_what_is_secret_in_a_text_is_hidden(monkeypatch, text, left):
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    monkeypatch.setenv("MY_SECRET", "sk-first-half\nsk-other-half")
    found = redact(text)
    assert HIDDEN in found and left in found
    assert not any(word in found for word in (KEY, "hunter22", "aHVudGVyMjI", "first-half", "other-half"))


def test_other_texts_stay_as_they_are(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    for text in ("no key at all: none", "http://127.0.0.1:8000/v1", "me@host", "a Basic information sheet", "x @ y"):
        assert redact(text) == text and not has_credentials(text)


def test_a_stream_hides_what_is_printed_and_logged(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", KEY)
    log = io.StringIO()
    stream = RedactedStream(log)
    print("token:", KEY, file=stream)
    handler = logging.StreamHandler(stream)
    handler.emit(logging.LogRecord("x", logging.WARNING, "x.py", 1, "refused %s", (KEY,), None))
    stream.writelines(["plain\n"])
    assert log.getvalue() == f"token: {HIDDEN}\nrefused {HIDDEN}\nplain\n" and not stream.isatty()


@pytest.mark.parametrize(
    ("key", "address"),
    [
        ("captions.endpoint", "https://me:hunter22@host/v1"),
        ("captions.editor_endpoint", "https://host/v1?api-key=hunter22"),
        ("captions.concepts", "https://me:hunter22@host/bank.json"),
    ],
)
def test_credentials_in_a_config_are_refused_because_a_run_keeps_its_config(key, address):
    with pytest.raises(UserError, match="which the run would write into its files: take it out") as refused:
        load_config(None, {key: address})
    assert key in str(refused.value) and "hunter22" not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["localhost:8000/v1", "http://", "ftp://host", "http://[::1/v1", "http://h:x/", "http://h/ v1"]
)
def test_an_endpoint_that_is_no_address_is_refused(address):
    with pytest.raises(UserError, match=r"captions\.endpoint = .* is no address of a server"):
        load_config(None, {"captions.endpoint": address})
