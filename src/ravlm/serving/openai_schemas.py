"""Request bodies in the form of the OpenAI API.

Every key that OpenAI clients send is accepted; an option that this server cannot do is refused
rather than ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from ravlm.data.data_urls import is_data_url
from ravlm.serving.schemas import (
    EXAMPLE_IMAGE,
    MAX_TEXT,
    Filter,
    ImageUrl,
    NumEvidence,
    OpenAIBody,
    with_examples,
)

MAX_EMBEDDINGS = 2048
"""Inputs of one request, as at OpenAI."""
MAX_MESSAGES = 100
MAX_CONVERSATION = 1_000_000
"""Characters of all messages together: more than models read."""
MAX_TOKENS = 4096


def _refuse_unsupported(value: Any) -> Any:
    if value is None or value is False or value in (0, [], {}):
        return value
    raise PydanticCustomError("unsupported", "This server does not support it; leave it out")


_NOT_SUPPORTED = Field(description="Not supported.")
_EmptyList = Annotated[list[Any], Field(max_length=0)]
_Unsupported = Annotated[_EmptyList | None, BeforeValidator(_refuse_unsupported), _NOT_SUPPORTED]
_UnsupportedObject = Annotated[
    Annotated[dict[str, Any], Field(max_length=0)] | None,
    BeforeValidator(_refuse_unsupported),
    _NOT_SUPPORTED,
]
_UnsupportedFlag = Annotated[
    Literal[False] | None, BeforeValidator(_refuse_unsupported), _NOT_SUPPORTED
]
_UnsupportedNumber = Annotated[
    Literal[0] | None, BeforeValidator(_refuse_unsupported), _NOT_SUPPORTED
]
_Without = Literal["none", "auto"]
_TokenLimit = Annotated[int, Field(ge=1)] | Annotated[Literal[-1], Field(description="No limit.")]


def _refuse_image_as_text(text: str) -> str:
    if is_data_url(text):
        raise PydanticCustomError(
            "data_url", "This is an image as a data URL; send it as a part of the type image_url"
        )
    return text


_MessageText = Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_refuse_image_as_text)]


class ImageAddress(OpenAIBody):
    """The URL of an image."""

    url: ImageUrl


class TextContent(OpenAIBody):
    """Text in a message or an input."""

    type: Literal["text"]
    text: _MessageText


class ImageContent(OpenAIBody):
    """An image in a message or an input."""

    type: Literal["image_url"]
    image_url: ImageAddress | ImageUrl

    @property
    def url(self) -> str:
        """The URL of the image."""
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


Content = Annotated[TextContent | ImageContent, Field(discriminator="type")]


class ChatMessage(OpenAIBody):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: _MessageText | Annotated[list[Content], Field(max_length=32)] | None = None

    @property
    def texts(self) -> list[str]:
        """The texts of the message, in order."""
        if isinstance(self.content, list):
            return [part.text for part in self.content if isinstance(part, TextContent)]
        return [self.content or ""]


class StreamOptions(OpenAIBody):
    """What is streamed in addition to the text."""

    include_usage: bool = False


class ResponseFormat(OpenAIBody):
    """The output format; only text is supported."""

    type: Literal["text"] = "text"


class ChatBody(OpenAIBody):
    """A conversation. `k`, `where` and `base_only` are extensions of ravlm."""

    model_config = with_examples(
        {
            "model": "ravlm",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is the animal in the picture?"},
                        {"type": "image_url", "image_url": {"url": EXAMPLE_IMAGE}},
                    ],
                }
            ],
        },
        strict=False,
    )
    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: _TokenLimit | None = None
    max_completion_tokens: _TokenLimit | None = None
    n: Annotated[int, Field(ge=1, le=1)] | None = 1
    stop: _Unsupported = None
    tools: _Unsupported = None
    functions: _Unsupported = None
    tool_choice: _Without | None = None
    function_call: _Without | None = None
    logprobs: _UnsupportedFlag = None
    top_logprobs: _UnsupportedNumber = None
    logit_bias: _UnsupportedObject = None
    modalities: list[Literal["text"]] | None = None
    audio: _UnsupportedObject = None
    web_search_options: _UnsupportedObject = None
    response_format: ResponseFormat | None = None
    k: NumEvidence | None = None
    where: Filter = None
    base_only: bool = True

    @model_validator(mode="after")
    def _limit_conversation(self) -> ChatBody:
        if sum(len(text) for message in self.messages for text in message.texts) > MAX_CONVERSATION:
            raise PydanticCustomError(
                "conversation_too_long",
                "A conversation has at most {limit} characters; leave out early messages",
                {"limit": MAX_CONVERSATION},
            )
        return self

    @property
    def token_limit(self) -> int:
        """Words and Chinese characters after which the answer is cut off."""
        limits = (self.max_completion_tokens, self.max_tokens)
        limit = next((limit for limit in limits if limit is not None and limit > 0), MAX_TOKENS)
        return min(limit, MAX_TOKENS)


def _check_input_text(text: str) -> str:
    if len(text) > MAX_TEXT and not is_data_url(text):
        raise PydanticCustomError(
            "string_too_long", "String should have at most {limit} characters", {"limit": MAX_TEXT}
        )
    return text


def _refuse_token_ids(value: Any) -> Any:
    first = value[0] if isinstance(value, list) and value else None
    first = first[0] if isinstance(first, list) and first else first
    if isinstance(first, int) and not isinstance(first, bool):
        raise PydanticCustomError(
            "token_ids",
            "These are token ids of another model's tokenizer; send strings. "
            "With LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)",
        )
    return value


_InputText = Annotated[str, Field(min_length=1, pattern=r"\S"), AfterValidator(_check_input_text)]


class EmbeddingsBody(OpenAIBody):
    """Texts and images to embed in one vector space. A string that is a data URL is an image."""

    model_config = with_examples(
        {"model": "ravlm", "input": ["a red boat", "a fluffy orange cat"]},
        {
            "model": "ravlm",
            "input": [{"type": "image_url", "image_url": {"url": EXAMPLE_IMAGE}}],
        },
        {"model": "ravlm", "input": [EXAMPLE_IMAGE]},
        strict=False,
    )
    model: str
    input: Annotated[
        _InputText
        | Content
        | Annotated[list[_InputText | Content], Field(min_length=1, max_length=MAX_EMBEDDINGS)],
        BeforeValidator(_refuse_token_ids),
    ]
    modality: Annotated[
        Literal["text", "image"] | None,
        Field(description="What strings are: words, or URLs of images; by default their form says"),
    ] = None
    encoding_format: Literal["float", "base64"] | None = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    input_type: Annotated[
        Literal["query", "document"],
        Field(
            description="Whether the inputs are searched with, or are to be found: some encoders "
            "tell them apart by a prompt"
        ),
    ] = "document"
