"""OpenAI-compatible endpoints over real HTTP: requests, replies, and everything that goes wrong."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest
from PIL import Image

from ravlm.errors import BrokenData, Busy, InvalidInput, NotFound, RavlmError
from ravlm.generation.base import Request
from ravlm.generation.chat.openai_client import Endpoint
from ravlm.generation.chat.openai_compatible import RemoteGenerator
from ravlm.generation.chat.openai_http import RetryPolicy
from ravlm.model import RetrievalAugmentedVLM
from ravlm.records import Answer, Entry, Evidence, Hit, Message, Part
from tests.helpers import endpoints
from tests.helpers.endpoints import (
    Handler,
    Reply,
    Server,
    drop,
    error_reply,
    event,
    json_reply,
    message,
    silence,
    silence_after,
    stream,
)

KEY = "sk-secret-0123456789"
QUICK = RetryPolicy(
    connect_timeout=1,
    read_timeout=0.3,
    total_timeout=2,
    max_attempts=3,
    backoff=0.02,
    max_bytes=20_000,
)
HITS = (
    Hit(
        Entry("finch", Image.new("RGB", (900, 500), "red"), ("Name: Ruby Finch",)),
        0.9,
        Part("image"),
    ),
    Hit(Entry("heron", None, ("Name: Sea Heron",)), 0.5, Part("text")),
)
REQUEST = Request(
    "ask", "What is it?", Image.new("RGB", (2000, 1000), "red"), Evidence(HITS, (0.8, 0.2), 0.9)
)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def serve() -> Iterator[Any]:
    running: list[Server] = []

    def start(*replies: Reply, models: Sequence[str] = ("tiny",)) -> Server:
        running.append(Server(replies, models).__enter__())
        return running[-1]

    yield start
    for server in running:
        server.__exit__()


def answer(server: Server, request: Request = REQUEST, policy: RetryPolicy = QUICK) -> Answer:
    return RemoteGenerator(f"{server.address}#tiny", retry_policy=policy).generate([request])[0]


def error_text(kind: type[RavlmError], server: Server, policy: RetryPolicy = QUICK) -> str:
    """Return the text of the error, after checking that it is one line without the key."""
    with pytest.raises(kind) as raised:
        answer(server, policy=policy)
    text = str(raised.value)
    assert KEY not in text
    assert "\n" not in text
    assert len(text) < 700
    assert server.address in text
    return text


def test_request_format(serve: Any) -> None:
    server = serve(stream(["Ruby ", "Finch [", "1]"]))
    result = answer(server)
    assert (result.text, result.citations, result.confidence) == ("Ruby Finch", ("finch",), 0.72)
    ((path, headers, body),) = server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (body["model"], body["stream"], body["temperature"], body["seed"]) == (
        "tiny",
        True,
        0,
        0,
    )
    system, user = body["messages"]
    assert isinstance(system["content"], str)
    urls = [part["image_url"]["url"] for part in user["content"] if part["type"] == "image_url"]
    sizes = []
    for url in urls:
        head, _, data = url.partition(",")
        assert head == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            sizes.append(image.size)
    assert sizes == [(384, 213), (768, 384)]
    assert "[1] (80% likely)" in user["content"][0]["text"] + user["content"][1]["text"]


def test_plain_text_is_sent_as_a_string(serve: Any) -> None:
    server = serve(message("Sea Heron [2]"))
    talk = (
        Message("user", "Hello"),
        Message("assistant", "Good day"),
        Message("user", "Which bird is blue?"),
    )
    request = Request("chat", "Which bird is blue?", None, Evidence((HITS[1], HITS[1])), talk)
    assert answer(server, request).citations == ("heron",)
    sent = server.requests[0][2]["messages"]
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "user"]
    assert all(isinstance(m["content"], str) for m in sent)
    blind = RemoteGenerator(
        f"{server.address}#tiny", reads_images=False, describe=lambda _: "A red bird"
    )
    blind.generate([REQUEST])
    assert "described as: A red bird" in server.requests[1][2]["messages"][-1]["content"]


def test_without_a_key_none_is_sent(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    server = serve(message("Yes"))
    answer(server)
    assert "Authorization" not in server.requests[0][1]


def test_model_name_is_looked_up_if_the_address_has_none(serve: Any) -> None:
    server = serve(message("Yes"), models=["only-one"])
    generator = RemoteGenerator(server.address, retry_policy=QUICK)
    generator.generate([REQUEST, REQUEST])
    assert [path for path, _, _ in server.requests].count("/v1/models") == 1
    assert {body["model"] for path, _, body in server.requests if path != "/v1/models"} == {
        "only-one"
    }
    assert generator.name == f"{server.address}#only-one"
    for models, text in (
        (["a", "b"], r"serves 2 models \(a, b\)\. Put one after the address: .*#a"),
        ([], r"serves 0 models \(none\)"),
    ):
        with pytest.raises(InvalidInput, match=text):
            RemoteGenerator(serve(message("Yes"), models=models).address).generate([REQUEST])


def test_pieces_are_streamed_without_delay(serve: Any) -> None:
    has_first = threading.Event()
    arrived: list[bool] = []

    def write(handler: Handler) -> None:
        handler.begin(200, "text/event-stream")
        handler.wfile.write(event("One "))
        handler.wfile.flush()
        arrived.append(has_first.wait(20))
        handler.wfile.write(event("two ") + event("three") + event(finish="stop"))

    server = serve(write)
    words = RemoteGenerator(f"{server.address}#tiny").stream(REQUEST)
    assert next(words).strip() == "One"
    has_first.set()
    assert "".join(words).strip() == "two three"
    assert arrived == [True], "the first piece came with the last"


def test_answers_of_parallel_requests_keep_their_order(serve: Any) -> None:
    server = serve(endpoints.bird_watcher)
    requests = [Request("ask", f"Question {n}", None, Evidence((HITS[n % 2],))) for n in range(9)]
    result = RemoteGenerator(f"{server.address}#tiny").generate(requests)
    assert [a.text for a in result] == [
        "Ruby Finch" if n % 2 == 0 else "Sea Heron" for n in range(9)
    ]


def events(*values: Any, done: bool = True) -> Reply:
    """Reply with events of any content."""
    lines = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)
    return json_reply(lines + (b"data: [DONE]\n\n" if done else b""))


def chunk(delta: Any, reason: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


TEXT, END = chunk({"content": "Sea Heron [2]"}), chunk({}, "stop")
USAGE = {"prompt_tokens": 7, "completion_tokens": 3}


@pytest.mark.parametrize(
    "reply",
    [
        events(TEXT, END, {"choices": None, "usage": USAGE}),
        events(TEXT, END, {"choices": [], "usage": USAGE}, done=False),
        events(TEXT, END, {"usage": USAGE}),
        events({"type": "ping"}, TEXT, {}, END),
        events(TEXT, {"choices": [{"finish_reason": "eos"}]}, done=False),
        events(TEXT, {"choices": [{"delta": None, "finish_reason": "stop"}]}),
        events(TEXT, {"choices": [None]}, END),
        events(chunk({"role": "assistant", "content": None}), TEXT, END),
        events(chunk({"content": [{"type": "text", "text": "Sea "}, "Heron [2]"]}), END),
        events(
            chunk({"content": [{"type": "thinking", "thinking": "Hm [1]"}]}),
            chunk({"reasoning_content": "[1] or [2]?", "content": ""}),
            TEXT,
            END,
        ),
        json_reply(
            {"choices": [{"message": {"content": [{"type": "text", "text": "Sea Heron [2]"}]}}]}
        ),
        message("I compare [1] and [2].\n</think>\n\nSea Heron [2]"),
    ],
)
def test_a_finished_answer_survives_what_servers_send_around_it(reply: Reply, serve: Any) -> None:
    """Token usage with null choices, pings and null deltas threw whole answers away."""
    result = answer(serve(reply))
    assert (result.text, result.citations) == ("Sea Heron", ("heron",))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (events(chunk({"reasoning_content": "Hm"}), chunk({}, "length")), "tokens for thinking"),
        (events(chunk({"content": "<think>Hm"}), chunk({}, "length")), "2,176 tokens for thinking"),
        (events(chunk({"reasoning": "Hm"}), END), "reasoning but no answer"),
        (events(chunk({}, "content_filter")), "content filter"),
        (events(chunk({"refusal": "I can't "}), chunk({"refusal": "say."}), END), "I can't say."),
        (
            events(
                chunk({}, "length"),
                {"usage": {"completion_tokens_details": {"reasoning_tokens": 9}}, "choices": []},
            ),
            "tokens for thinking",
        ),
        (
            json_reply(
                {
                    "choices": [
                        {"message": {"content": None, "refusal": "No."}, "finish_reason": "stop"}
                    ]
                }
            ),
            "No.",
        ),
    ],
)
def test_a_reply_without_an_answer_says_what_happened(reply: Reply, words: str, serve: Any) -> None:
    result = answer(serve(reply))
    assert words in result.text
    assert "not in the knowledge base" not in result.text
    assert (result.abstained, result.citations, result.confidence) == (False, (), 0.0)


def test_a_cut_reply_is_marked(serve: Any) -> None:
    server = serve(events(TEXT, chunk({"content": " stands in the"}, "length")))
    request = replace(REQUEST, task="chat", messages=(Message("user", "What is it?"),))
    result = answer(server, request)
    assert result.text == "Sea Heron [1] stands in the…"
    assert result.trace["finish_reason"] == "length"


def test_the_token_limit_is_a_setting(serve: Any) -> None:
    server = serve(message("Yes"))
    for limit, sent in ((None, 128 + 2048), (77, 77)):
        RemoteGenerator(f"{server.address}#tiny", max_tokens=limit).generate([REQUEST])
        assert server.requests[-1][2]["max_tokens"] == sent
    for limit in (0, -5, 2.5, True):
        with pytest.raises(InvalidInput, match="max_tokens is"):
            RemoteGenerator(f"{server.address}#tiny", max_tokens=limit)  # type: ignore[arg-type]


def test_thoughts_without_a_start_are_not_streamed_twice(serve: Any) -> None:
    """After the first such reply the endpoint is known to send them."""
    generator = RemoteGenerator(
        f"{serve(stream(['I see ', '[1]', '</th', 'ink>', 'Sea ', 'Heron [2]'])).address}#tiny"
    )
    first, second = (list(generator.stream(REQUEST)) for _ in range(2))
    assert "".join(first).endswith("\n\nSea Heron")
    assert "".join(second) == "Sea Heron"


def test_several_images_are_sent_in_order(serve: Any) -> None:
    server = serve(message("Both"))
    request = replace(REQUEST, more_images=(Image.new("RGB", (300, 600), "blue"),))
    generator = RemoteGenerator(f"{server.address}#tiny")
    assert generator.reads_several_images
    generator.generate([request])
    content = server.requests[0][2]["messages"][-1]["content"]
    labels = [part.get("text", "") for part in content]
    sizes = []
    for label, part in zip(labels, content[1:], strict=False):
        if "Picture" in label:
            with Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"][23:]))) as image:
                sizes.append((label.split()[-2:], image.size))
    assert sizes == [(["Picture", "1:"], (543, 272)), (["Picture", "2:"], (271, 543))]


def test_a_model_without_vision_and_evidence_is_not_asked(serve: Any) -> None:
    """It was told of a picture that it can't see, and guessed."""
    server = serve(message("A cat"))
    generator = RemoteGenerator(f"{server.address}#tiny", reads_images=False)
    assert generator.generate([replace(REQUEST, evidence=Evidence())])[0].abstained
    assert server.requests == []


# What goes wrong


def test_a_dead_endpoint_is_noticed_when_the_model_is_loaded(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was noticed at the first question, after everything else was loaded."""
    with Server([silence]) as server:
        address = server.address
    with pytest.raises(NotFound, match="can't be reached"):
        RetrievalAugmentedVLM(None, f"{address}#tiny")
    with pytest.raises(InvalidInput, match="serves 2 models"):
        RetrievalAugmentedVLM(None, serve(message("Yes"), models=["a", "b"]).address)
    behind_gateway = serve(message("Yes"))
    monkeypatch.setattr(endpoints.Handler, "do_GET", error_reply(502, "Bad Gateway"))
    with pytest.raises(Busy, match="502: Bad Gateway"):
        RetrievalAugmentedVLM(None, f"{behind_gateway.address}#tiny")
    for status in (404, 501, 503):  # no list of models, or the model is being loaded
        monkeypatch.setattr(endpoints.Handler, "do_GET", error_reply(status, "no"))
        RetrievalAugmentedVLM(None, f"{behind_gateway.address}#tiny")
    monkeypatch.undo()
    alive = serve(message("Yes"))
    assert (
        RetrievalAugmentedVLM(None, f"{alive.address}#tiny")
        .chat([{"role": "user", "content": "Hello"}])
        .text
        == "Yes"
    )


@pytest.mark.parametrize(
    "fault",
    [error_reply(429, "slow down"), error_reply(500, "oops"), error_reply(503, "loading"), drop],
    ids=["429", "500", "503", "cut"],
)
def test_temporary_errors_are_retried(fault: Reply, serve: Any) -> None:
    server = serve(fault, fault, message("Yes"))
    assert answer(server).text == "Yes"
    assert len(server.requests) == 3


def test_retries_end(serve: Any) -> None:
    server = serve(error_reply(429, "slow down"))
    assert "429: slow down" in error_text(Busy, server)
    assert len(server.requests) == QUICK.max_attempts
    assert "500: out of memory" in error_text(Busy, serve(error_reply(500, "out of memory")))
    assert "can't be reached" in error_text(NotFound, serve(drop))


def test_retry_after_is_respected(serve: Any) -> None:
    server = serve(error_reply(429, "wait", Retry_After="1"), message("Yes"))
    began = time.monotonic()
    assert answer(server).text == "Yes"
    assert time.monotonic() - began >= 1.0
    date = formatdate(time.time() + 3600, usegmt=True)
    for wait in ("3600", date):
        server = serve(error_reply(429, "come back tomorrow", Retry_After=wait), message("Yes"))
        error_text(Busy, server)
        assert len(server.requests) == 1, "longer than there is time for"
    assert answer(serve(error_reply(503, "x", Retry_After="soon"), message("Yes"))).text == "Yes"


def test_an_endpoint_that_hangs(serve: Any) -> None:
    for hanging in (silence, silence_after("One ")):
        server = serve(hanging)
        began = time.monotonic()
        assert "did not answer within 0.3 seconds" in error_text(Busy, server)
        assert time.monotonic() - began < 15  # the endpoint is silent for 20 s
        assert len(server.requests) == 1
    dripping = serve(stream(["drop "] * 100, pause=0.05))
    policy = RetryPolicy(read_timeout=0.5, total_timeout=0.4, max_attempts=1)
    assert "within 0.4 seconds" in error_text(Busy, dripping, policy)


def test_an_endpoint_that_cuts_the_stream(serve: Any) -> None:
    """The text before the cut was once returned as the whole answer."""
    assert "cut its reply off after 8 characters" in error_text(
        BrokenData, serve(stream(["One ", "two "], ended=False))
    )
    half = event("One ")[:-9]

    def promise(handler: endpoints.Handler) -> None:
        handler.begin(200, "text/event-stream", Content_Length="5000")
        handler.wfile.write(half)

    assert "cut its reply off" in error_text(BrokenData, serve(promise))
    words = RemoteGenerator(f"{serve(stream(['One ', 'two '], ended=False)).address}#tiny").stream(
        REQUEST
    )
    assert next(words) == "One"
    with pytest.raises(BrokenData, match="cut its reply off"):
        list(words)


@pytest.mark.parametrize(
    "reply",
    [
        json_reply(b"<html><body>Welcome to nginx!</body></html>"),
        json_reply(b""),
        json_reply([]),
        json_reply({"choices": []}),
        json_reply({"choices": [{"message": {"content": 7}}]}),
        json_reply({"choices": [{"message": None}]}),
        json_reply(b"data: {\n\n"),
        json_reply(b"data: [1, 2]\n\n"),
        json_reply(b'data: {"choices": [{"delta": {"content": [1]}}]}\n\n'),
        json_reply(b"[" * 15_000),
        json_reply(b"data: " + b"[" * 15_000 + b"\n\n"),
        json_reply(b"\xff\xfe\x00" * 50),
    ],
)
def test_an_endpoint_with_another_format(reply: Reply, serve: Any) -> None:
    text = error_text(BrokenData, serve(reply))
    assert (
        "does not answer in the OpenAI format" in text
        or "cut its reply off after 0 characters" in text
    )


def test_a_malformed_list_of_models(serve: Any) -> None:
    server = serve(message("Yes"))
    server.models = [1, 2]
    with pytest.raises(BrokenData, match="models without their ids"):
        RemoteGenerator(server.address).generate([REQUEST])


def test_an_endpoint_that_never_stops(serve: Any) -> None:
    assert "more than 20,000 bytes" in error_text(
        BrokenData, serve(stream(["much too much " * 100] * 100))
    )
    assert "more than 20,000 bytes" in error_text(BrokenData, serve(json_reply(b" " * 50_000)))


def test_an_error_during_the_reply(serve: Any) -> None:
    def broken(handler: endpoints.Handler) -> None:
        handler.begin(200, "text/event-stream")
        handler.wfile.write(
            event("One ") + b'data: {"error": {"message": "CUDA out of memory"}}\n\n'
        )

    assert "failed during the reply: CUDA out of memory" in error_text(Busy, serve(broken))


def test_a_rejected_key_is_never_shown(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints repeat a wrong key in their messages."""
    server = serve(error_reply(401, f"Incorrect API key provided: {KEY}. See\nthe manual."))
    text = error_text(InvalidInput, server)
    assert "rejected the key (401: Incorrect API key provided: ***. See the manual)" in text
    assert "OPENAI_API_KEY" in text
    assert len(server.requests) == 1
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "requires a key" in error_text(InvalidInput, serve(error_reply(401, "no")))
    for wrong in ("two words", "line\nbreak", "schlüssel"):
        monkeypatch.setenv("OPENAI_API_KEY", wrong)
        with pytest.raises(InvalidInput, match="contains characters") as raised:
            RemoteGenerator(server.address)
        assert wrong not in str(raised.value)


def test_a_redirect_is_not_followed(serve: Any) -> None:
    """It would send the key to another host."""
    other = serve(message("Yes"))
    server = serve(json_reply(b"", 307, Location=f"{other.address}/chat/completions"))
    text = error_text(InvalidInput, server)
    assert f"{other.address}/chat/completions" in text
    assert other.requests == []


def test_rejected_requests(serve: Any) -> None:
    text = error_text(NotFound, serve(error_reply(404, "The model `tiny` does not exist")))
    assert "404: The model `tiny` does not exist" in text
    text = error_text(
        InvalidInput, serve(error_reply(400, "image_url is not supported by this model"))
    )
    assert "reads_images=False" in text
    assert "no explanation" in error_text(InvalidInput, serve(json_reply(b"", 413)))


def test_unsupported_settings_are_learned(serve: Any) -> None:
    """Reasoning models reject the temperature, and expect the length under another name."""
    server = serve(
        error_reply(
            400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        ),
        error_reply(400, "Unsupported value: 'temperature' does not support 0."),
        message("Yes"),
    )
    generator = RemoteGenerator(f"{server.address}#tiny", retry_policy=QUICK)
    assert [a.text for a in generator.generate([REQUEST])] == ["Yes"]
    assert [a.text for a in generator.generate([REQUEST])] == ["Yes"]
    bodies = [body for _, _, body in server.requests]
    assert len(bodies) == 4
    assert "max_tokens" in bodies[0]
    for body in bodies[2:]:
        assert not {"max_tokens", "temperature"} & set(body)
        assert body["max_completion_tokens"] == bodies[0]["max_tokens"]


def test_unreachable_endpoint() -> None:
    with Server([silence]) as server:
        address = server.address
    with pytest.raises(NotFound, match="can't be reached"):
        RemoteGenerator(f"{address}#tiny", retry_policy=QUICK).generate([REQUEST])


@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("http://", "not the address of an endpoint"),
        ("http://user:pass@host/v1", "contains a password"),
        ("http://host:port/v1", "is not a valid address"),
        ("ftp://host/v1", "not the address of an endpoint"),
    ],
)
def test_invalid_addresses(address: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=text) as raised:
        RemoteGenerator(address)
    assert "pass@" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "base", "model"),
    [
        ("http://host:1", "http://host:1/v1", ""),
        ("http://host:1/v1/#m", "http://host:1/v1", "m"),
        ("https://host/openai/v1/chat/completions#a/b:c", "https://host/openai/v1", "a/b:c"),
    ],
)
def test_addresses(address: str, base: str, model: str) -> None:
    endpoint = Endpoint(address)
    assert (endpoint.address, endpoint._model) == (base, model)
