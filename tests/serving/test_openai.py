"""The server, called by the real `openai` client: models, chat with images, streams, embeddings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import openai
import pytest

from tests.helpers.fakes import COLORS, FakeEncoder
from tests.helpers.servers import Running, png, url_of


@pytest.fixture(scope="module")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)


def about(words: str, *colors: str) -> dict[str, Any]:
    images = [{"type": "image_url", "image_url": {"url": url_of(color)}} for color in colors]
    return {"role": "user", "content": [{"type": "text", "text": words}, *images]}


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["ravlm"]
    assert client.models.retrieve("ravlm").owned_by == "ravlm"
    with pytest.raises(openai.NotFoundError, match="only one is"):
        client.models.retrieve("gpt-4")


def test_chat_about_two_images(client: openai.OpenAI) -> None:
    for color, other_color in (("red", "blue"), ("blue", "red")):
        completion = client.chat.completions.create(
            model="ravlm", messages=[about("What size is it?", color)]
        )
        message = completion.choices[0].message
        assert message.content == {"red": "12 cm", "blue": "20 cm"}[color]
        assert completion.choices[0].finish_reason == "stop"
        assert message.annotations is not None
        cited = message.annotations[0].url_citation
        assert cited.url.endswith(f"/#entry={color}")
        assert cited.title == f"{color} square"
        assert (cited.start_index, cited.end_index) == (0, len(message.content))
        extra = completion.model_extra
        assert extra is not None
        assert extra["evidence"][0]["id"] == color
        assert extra["evidence"][0]["texts"][0].startswith("Name: ")
        assert extra["citations"][0] == cited.url
        assert other_color not in str(extra["citations"])
        assert completion.usage is not None
        assert completion.usage.completion_tokens == 2


def test_a_chat_keeps_its_image(client: openai.OpenAI) -> None:
    talk: list[Any] = [
        {"role": "system", "content": "Be brief."},
        about("What colour is it?", "green"),
        {"role": "assistant", "content": "green"},
        {"role": "user", "content": "What size is it?"},
    ]
    assert (
        client.chat.completions.create(model="ravlm", messages=talk).choices[0].message.content
        == "15 cm"
    )
    talk[-1] = about("And the size of this?", "blue")
    assert (
        client.chat.completions.create(model="ravlm", messages=talk).choices[0].message.content
        == "20 cm"
    )


def test_a_stream_equals_the_whole_answer(client: openai.OpenAI) -> None:
    messages: Any = [about("What size is it?", "red")]
    completion = client.chat.completions.create(model="ravlm", messages=messages)
    chunks = list(
        client.chat.completions.create(
            model="ravlm", messages=messages, stream=True, stream_options={"include_usage": True}
        )
    )
    message = [
        chunk.choices[0].delta.content
        for chunk in chunks
        if chunk.choices and chunk.choices[0].delta.content
    ]
    assert len(message) > 1
    assert "".join(message) == completion.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    last = next(chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason)
    assert last.choices[0].finish_reason == "stop"
    assert last.model_extra is not None
    assert last.model_extra["evidence"] == completion.model_extra["evidence"]  # type: ignore[index]
    assert chunks[-1].usage == completion.usage


def test_closed_book_and_abstention(client: openai.OpenAI) -> None:
    closed = client.chat.completions.create(
        model="ravlm",
        messages=[about("What size is it?", "red")],
        extra_body={"k": 0},  # type: ignore[list-item]
    )
    assert "not in the knowledge base" in str(closed.choices[0].message.content)
    assert closed.model_extra is not None
    assert closed.model_extra["evidence"] == []
    absent = client.chat.completions.create(
        model="ravlm", messages=[{"role": "user", "content": "巴黎有多少居民？"}]
    )
    assert "知识库中没有" in str(absent.choices[0].message.content)


def test_max_tokens(client: openai.OpenAI) -> None:
    ask: dict[str, Any] = {
        "model": "ravlm",
        "messages": [about("What size is it?", "red")],
        "max_tokens": 1,
    }
    completion = client.chat.completions.create(**ask)
    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == (
        "12 ",
        "length",
    )
    chunks = list(client.chat.completions.create(**ask, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "12 "
    assert chunks[-1].choices[0].finish_reason == "length"


def test_text_and_image_embeddings_share_a_space(client: openai.OpenAI) -> None:
    parts: Any = [
        {"type": "text", "text": "red"},
        {"type": "image_url", "image_url": {"url": url_of("blue")}},
        {"type": "image_url", "image_url": {"url": url_of("red")}},
        "blue",
    ]
    for form in ("float", "base64"):
        response = client.embeddings.create(model="ravlm", input=parts, encoding_format=form)  # type: ignore[arg-type]
        rows = np.array([unpacked(item.embedding) for item in response.data], np.float32)
        encoder = FakeEncoder()
        texts, images = (
            encoder.encode_texts(["red", "blue"]),
            encoder.encode_images([png(COLORS["blue"])]),
        )
        assert np.allclose(rows[[0, 3]], texts, atol=1e-6)
        assert np.allclose(rows[1], images[0], atol=1e-3)
        assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        cosines = rows @ rows.T
        assert cosines[0, 2] > cosines[0, 1]
        assert cosines[3, 1] > cosines[3, 2]
    assert [item.index for item in response.data] == [0, 1, 2, 3]
    one = client.embeddings.create(model="ravlm", input="a red boat")
    assert len(one.data[0].embedding) == 64
    assert one.usage.prompt_tokens == 3


def unpacked(value: Any) -> Any:
    import base64

    return np.frombuffer(base64.b64decode(value), "<f4") if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "hello"}]}, "user"),
        ({"messages": [{"role": "user", "content": " "}]}, "no text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "must be a user's"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
        ({"n": 2}, "n:"),
        ({"tools": [{"type": "function"}]}, "tools: This server does not support it"),
        ({"functions": [{"name": "f"}]}, "functions: This server does not support it"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"stop": [","]}, "stop: This server does not support it"),
        ({"stop": "\n"}, "stop: This server does not support it"),
        ({"logprobs": True}, "logprobs: This server does not support it"),
        ({"top_logprobs": 3}, "top_logprobs: This server does not support it"),
        ({"logit_bias": {"50256": -100}}, "logit_bias: This server does not support it"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "a", "format": "wav"}}, "audio: This server does not support it"),
        ({"web_search_options": {"search_context_size": "low"}}, "web_search_options"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -2}, "max_tokens"),
        ({"messages": [about("What are these?", "red", "blue")]}, "has 2 pictures"),
        ({"messages": [{"role": "user", "content": url_of("red")}]}, "type image_url"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"k": -1}, "k:"),
        ({"where": "year >"}, "filter"),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "image_url", "image_url": {"url": "/etc/hostname"}}],
                    }
                ]
            },
            "data URL",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "image_url", "image_url": {"url": "data:x;base64,!!"}}
                        ],
                    }
                ]
            },
            "base64",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, "image_url"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_invalid_chats(
    client: openai.OpenAI, change: dict[str, Any], words: str, stream: bool
) -> None:
    """The status is set before the stream begins, so clients see an error and not an empty
    answer."""
    ask: Any = {
        "model": "ravlm",
        "messages": [{"role": "user", "content": "What is red?"}],
        "stream": stream,
    }
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(**{**ask, "extra_body": change})
    assert words.lower() in error.value.message.lower()
    assert error.value.type == "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": [" "]}, "input"),
        ({"input": [[1, 2, 3]]}, "check_embedding_ctx_length=False"),
        ({"input": [1, 2, 3]}, "check_embedding_ctx_length=False"),
        ({"input": ["x"] * 2049}, "2048"),
        ({"input": ["data:image/png;base64,AAAA"]}, "formats"),
        ({"input": ["words"], "modality": "image"}, "data URL"),
        ({"input": [url_of(b"x" * 20_001)], "modality": "text"}, "20,000"),
        ({"modality": "sound"}, "modality"),
        ({"input": "x" * 20_001}, "20000"),
        ({"dimensions": 7}, "was not trained for shorter vectors (Matryoshka); allowed: 64"),
        ({"encoding_format": "int8"}, "encoding_format"),
        (
            {"input": [{"type": "image_url", "image_url": {"url": url_of(b"no picture")}}]},
            "formats",
        ),
    ],
)
def test_invalid_embeddings(client: openai.OpenAI, change: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="ravlm", input="red", extra_body=change)
    assert words in error.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"stop": None, "logprobs": False, "top_logprobs": 0, "modalities": ["text"]},
        {"stop": [], "functions": [], "tools": [], "tool_choice": "none", "logit_bias": {}},
        {"max_tokens": -1, "max_completion_tokens": -1, "n": None, "audio": None},
    ],
)
def test_options_that_ask_for_nothing_are_accepted(
    client: openai.OpenAI, change: dict[str, Any]
) -> None:
    """max_tokens -1 is what clients of llama.cpp and LM Studio send for "no limit"."""
    completion = client.chat.completions.create(
        model="ravlm", messages=[about("What size is it?", "red")], extra_body=change
    )
    assert completion.choices[0].message.content == "12 cm"


def in_lines(url: str) -> str:
    head, _, data = url.partition(",")
    return f"{head}," + "\r\n".join(data[i : i + 76] for i in range(0, len(data), 76))


def url_safe(url: str) -> str:
    head, _, data = url.partition(",")
    return f"{head}," + data.replace("+", "-").replace("/", "_").rstrip("=")


@pytest.mark.parametrize(
    "write", [str, in_lines, url_safe, lambda url: url.replace("data:image", "DATA:image")]
)
def test_images_as_clients_write_them(client: openai.OpenAI, write: Any) -> None:
    """Base64 with line ends, without padding or URL-safe was refused, and so was image_url as a
    string."""
    for color, size in (("red", "12 cm"), ("blue", "20 cm")):
        url = write(url_of(color))
        for value in (url, {"url": url, "detail": "low"}):
            part = {"type": "image_url", "image_url": value}
            content: Any = [{"type": "text", "text": "What size is it?"}, part]
            completion = client.chat.completions.create(
                model="ravlm", messages=[{"role": "user", "content": content}]
            )
            assert completion.choices[0].message.content == size


def test_results_of_tools_in_the_history(client: openai.OpenAI) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    talk: Any = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "blue square"},
        {"role": "user", "content": "What is the size of the green square?"},
    ]
    completion = client.chat.completions.create(model="ravlm", messages=talk)
    assert completion.choices[0].message.content == "15 cm"


def test_images_are_embedded_in_every_form(client: openai.OpenAI) -> None:
    """A data URL as a string was embedded as words, with status 200."""
    red, blue = url_of("red"), in_lines(url_of("blue"))
    parts: Any = [{"type": "image_url", "image_url": {"url": url}} for url in (red, blue)]
    expected = np.array(
        [d.embedding for d in client.embeddings.create(model="ravlm", input=parts).data]
    )
    for value, rows in (([red, blue], [0, 1]), (red, [0]), ([blue, "red"], [1])):
        for modality in (None, "image"):
            if modality and "red" in value:
                continue
            response = client.embeddings.create(
                model="ravlm", input=value, extra_body={"modality": modality}
            )
            vectors = np.array([item.embedding for item in response.data])
            assert np.allclose(vectors[: len(rows)], expected[rows], atol=1e-6)
    words = client.embeddings.create(model="ravlm", input=red, extra_body={"modality": "text"})
    assert abs(np.dot(words.data[0].embedding, expected[0])) < 0.9
    oil = client.embeddings.create(model="ravlm", input="data: the new oil")
    assert oil.usage.prompt_tokens == 4


def test_many_inputs_are_embedded_in_order(client: openai.OpenAI) -> None:
    """LangChain sends 1,000 texts in a request, and OpenAI allows 2,048; 65 were refused."""
    texts = [f"number {n}" for n in range(2047)]
    inputs: Any = [*texts[:1000], url_of("green"), *texts[1000:]]
    response = client.embeddings.create(model="ravlm", input=inputs, encoding_format="base64")
    rows = np.array([unpacked(item.embedding) for item in response.data], np.float32)
    encoder = FakeEncoder()
    assert np.allclose(np.delete(rows, 1000, axis=0), encoder.encode_texts(texts), atol=1e-6)
    assert np.allclose(rows[1000], encoder.encode_images([png(COLORS["green"])])[0], atol=1e-3)


def test_shorter_vectors_of_a_matryoshka_encoder(
    client: openai.OpenAI, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = server.engine.served_model.session.encoder
    monkeypatch.setattr(encoder, "matryoshka_dims", (16, 32))
    inputs = ["a red boat", "a blue boat"]
    full = np.array(
        [d.embedding for d in client.embeddings.create(model="ravlm", input=inputs).data]
    )
    for dim in (16, 64):
        response = client.embeddings.create(model="ravlm", input=inputs, dimensions=dim)
        vectors = np.array([item.embedding for item in response.data])
        cut = full[:, :dim] / np.linalg.norm(full[:, :dim], axis=1, keepdims=True)
        assert np.allclose(vectors, cut, atol=1e-6)
    with pytest.raises(openai.BadRequestError, match="has other lengths; allowed: 16, 32, 64"):
        client.embeddings.create(model="ravlm", input=inputs, dimensions=48)


def test_queries_and_documents_are_told_apart(
    client: openai.OpenAI, server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Voyage and others name it, `input_type`; without it, an input is a document."""
    encoder = server.engine.served_model.session.encoder._encoder
    roles: list[str] = []

    def encode(texts: Sequence[str], batch_size: int = 64, role: str = "document") -> np.ndarray:
        roles.append(role)
        return FakeEncoder().encode_texts(texts)

    monkeypatch.setattr(encoder, "encode_texts", encode)
    client.embeddings.create(model="ravlm", input="a red boat")
    client.embeddings.create(model="ravlm", input="a red boat", extra_body={"input_type": "query"})
    assert roles == ["document", "query"]
    with pytest.raises(openai.BadRequestError, match="input_type"):
        client.embeddings.create(
            model="ravlm", input="a red boat", extra_body={"input_type": "question"}
        )


def test_an_unknown_model_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="text-embedding-3-small", input="red")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(
            model="gpt-4o", messages=[{"role": "user", "content": "hello"}]
        )


def test_the_event_stream_protocol(server: Running) -> None:
    body = {
        "model": "ravlm",
        "stream": True,
        "messages": [{"role": "user", "content": "What is the red square?"}],
    }
    with server.client.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    chunks = [json.loads(line[6:]) for line in lines[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
