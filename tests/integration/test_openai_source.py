"""The openai source with a faulty HTTP server: every failure is a recorded rejection or a one-line error.

The client, its retries and the source are the real ones; a real server of vLLM answers in tests/vllm.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.captions.base import Caption, Dropped
from polygen_stream.captions.sources import caption_source
from polygen_stream.config import CaptionsConfig
from polygen_stream.schedule.ledger import CaptionTask

Answer = tuple[int, dict | bytes]
# Makes the client repeat a failed request at once instead of after half a second.
AT_ONCE = {"retry-after-ms": "5"}


def completion(text: str | None, finish: str = "stop", **message: object) -> Answer:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    return 200, {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


class Server:
    """Answers chats by a function of (request, number of earlier requests with the same messages)."""

    def __init__(self, answer: Callable[[dict, int], Answer]) -> None:
        self.requests: list[dict] = []
        self.keys: list[str] = []
        self.most_at_once = self._at_once = 0
        self.models: Answer = (200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.keys.append(self.headers["Authorization"])
                self._send(*outer.models)

            def do_POST(self) -> None:
                outer.keys.append(self.headers["Authorization"])
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    before = sum(other["messages"] == request["messages"] for other in outer.requests)
                    outer.requests.append(request)
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                try:
                    status, body = answer(request, before)
                finally:
                    with outer._lock:
                        outer._at_once -= 1
                self._send(status, body)

            def _send(self, status: int, body: dict | bytes) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                for name, value in AT_ONCE.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    if status == 299:  # one byte at a time, without end
                        while True:
                            self.wfile.write(b" ")
                            time.sleep(0.05)
                    self.wfile.write(data)
                except OSError:
                    pass  # the client has closed the connection

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[dict, int], Answer]], Server]]:
    servers = []

    def start(answer: Callable[[dict, int], Answer]) -> Server:
        servers.append(Server(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def source(url: str, **changes: object):
    values = {"writer": "m", "editor": "m", "timeout_s": 20.0, "retries": 1, "batch": 4, **changes}
    return caption_source(CaptionsConfig(source="openai", endpoint=url, **values))


def fish(number: int = 0) -> CaptionTask:
    return CaptionTask(number, "fish", "replace_colour", 1000 + number, generators=(0,), image_seeds=(1,))


def right(request: dict, _before: int) -> Answer:
    turn = request["messages"][-1]["content"]
    return completion("a red fish" if turn.startswith("describe") else "a blue fish")


PAIR = Caption("a red fish", "a blue fish", "replace_colour")


def test_requests_have_the_sampling_of_the_config_and_a_seed_each(serve):
    server = serve(right)
    asking = source(server.url, structured_output_regex="[a-z ]+")
    assert asking.write([fish(0), fish(1)], [True, True]) == [PAIR, PAIR]
    assert len({request["seed"] for request in server.requests}) == 4
    for request in server.requests:
        assert (request["model"], request["temperature"], request["top_p"]) == ("m", 0.7, 0.95)
        assert request["max_tokens"] == 32 and request["structured_outputs"] == {"regex": "[a-z ]+"}
    assert asking.provenance["writer"]["endpoint"] == server.url
    asking.close()


def test_requests_run_concurrently_up_to_the_limit(serve):
    def slowly(request: dict, before: int) -> Answer:
        time.sleep(0.05)
        return right(request, before)

    server = serve(slowly)
    asking = source(server.url)
    assert asking.write([fish(i) for i in range(40)], [False] * 40) == [Caption("a red fish")] * 40
    assert server.most_at_once == 4
    asking.close()


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_temporary_failures_are_repeated_by_the_client(serve, status):
    server = serve(lambda request, before: right(request, before) if before >= 2 else (status, {"error": "busy"}))
    asking = source(server.url)
    assert asking.write([fish()], [True]) == [PAIR]
    assert len(server.requests) == 6  # two of each stage failed
    asking.close()


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (completion(""), "unparsable"),
        (completion(None), "unparsable"),
        (completion("a red fish and a red fish and a red", "length"), "endless"),
        (completion(None, refusal="I cannot help with that."), "unparsable"),
        (completion("a red \N{REPLACEMENT CHARACTER} fish"), "unparsable"),
        ((200, b'{"id": "1", "choices": [{"message": {"content": "a red fi\xff"}}]}'), "no reply in the answer"),
        ((200, {"id": "1", "object": "chat.completion", "choices": []}), "no reply in the answer"),
        ((200, b"<html>not what you think</html>"), "no reply in the answer"),
        ((400, {"error": {"message": "blocked by a content filter"}}), "refused by the server: 400"),
    ],
    ids=["empty", "null", "endless", "refusing", "broken", "not utf-8", "no choice", "no json", "filtered"],
)
def test_an_invalid_reply_is_a_recorded_rejection(serve, answer, fault):
    server = serve(lambda *_: answer)
    asking = source(server.url)
    assert asking.write([fish()], [True]) == [Dropped((f"caption: {fault}",) * 2)]
    assert len(server.requests) == 2
    asking.close()


@pytest.mark.parametrize("way", ["silent", "a byte at a time"])
def test_a_timeout_is_a_recorded_rejection(serve, way):
    def answer(request: dict, before: int) -> Answer:
        if before:
            return right(request, before)
        if way == "silent":
            time.sleep(3)
            return right(request, before)
        return 299, b" " * 10_000

    asking = source(serve(answer).url, timeout_s=0.5)
    began = time.monotonic()
    assert asking.write([fish()], [False]) == [Caption("a red fish", rejected=("caption: timeout",))]
    assert time.monotonic() - began < 2.5
    asking.close()


def test_an_unreachable_endpoint_is_a_one_line_error():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    with pytest.raises(UserError, match=r"no server answers .*start it, e\.g\. vllm serve"):
        source(url)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ((200, {"object": "list", "data": [{"id": "other", "object": "model"}]}), "serves other, not 'm'"),
        ((401, {"error": "no"}), r"refuses the key \(401\): set OPENAI_API_KEY"),
    ],
)
def test_a_missing_model_and_a_rejected_key_are_one_line_errors(serve, models, message):
    server = serve(right)
    server.models = models
    with pytest.raises(UserError, match=message):
        source(server.url)


def test_a_server_that_does_not_list_its_models_is_used(serve):
    server = serve(right)
    server.models = (404, {"error": "no such page"})
    asking = source(server.url)
    assert asking.write([fish()], [True]) == [PAIR]
    asking.close()


def test_a_server_that_keeps_failing_is_a_one_line_error(serve):
    server = serve(lambda *_: (500, {"error": {"message": "out of memory"}}))
    asking = source(server.url)
    with pytest.raises(PolygenError, match=r"answers 500 after 6 attempts: .*out of memory"):
        asking.write([fish()], [True])
    asking.close()


def test_a_server_that_disappears_is_a_one_line_error(serve, monkeypatch):
    monkeypatch.setattr("polygen_stream.captions.models.openai_model.RETRIES", 1)  # otherwise this takes 15 s
    server = serve(right)
    asking = source(server.url)
    server.close()
    with pytest.raises(PolygenError, match="cannot be reached any more after 2 attempts"):
        asking.write([fish()], [True])
    asking.close()


def test_a_key_with_a_line_break_is_sent_without_it(serve, monkeypatch):
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "sk-example-0000\n")
    server = serve(right)
    asking = source(server.url)
    assert asking.write([fish()], [True]) == [PAIR]
    assert set(server.keys) == {"Bearer sk-example-0000"}
    asking.close()


def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-one-line\nsk-two-lines")
    with pytest.raises(UserError, match="OPENAI_API_KEY: character 12 of 24") as refused:
        source(serve(right).url)
    assert "sk-" not in str(refused.value)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:1080", "no address"])
@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
def test_a_server_on_this_machine_is_asked_without_a_proxy(serve, monkeypatch, name, proxy):
    monkeypatch.setenv(name, proxy)
    asking = source(serve(right).url)
    assert asking.write([fish()], [True]) == [PAIR]
    asking.close()


def test_a_proxy_that_cannot_be_used_or_does_not_answer_is_named(monkeypatch):
    monkeypatch.setenv("all_proxy", "ftp://proxy")
    with pytest.raises(UserError, match="all_proxy = 'ftp://proxy': a proxy of the kind ftp is not supported"):
        source("http://example.invalid/v1")
    monkeypatch.setenv("all_proxy", "http://me:hunter22@127.0.0.1:9")
    with pytest.raises(UserError, match=r"no server answers through the proxy .* of all_proxy") as refused:
        source("http://example.invalid/v1")
    assert "hunter22" not in str(refused.value)


def test_another_kind_of_page_is_no_list_of_models(serve):
    server = serve(right)
    server.models = (200, b"<html>please log in</html>")
    with pytest.raises(UserError, match="answers something else than a list of models"):
        source(server.url)
