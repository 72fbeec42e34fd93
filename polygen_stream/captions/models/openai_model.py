"""A language model behind an OpenAI-compatible endpoint, e.g. of `vllm serve`, by the official client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from polygen_stream.base.errors import PolygenError, UserError
from polygen_stream.base.proxies import proxies_for, through
from polygen_stream.base.secrets import redact, secret
from polygen_stream.captions.banks.base import Messages, ModelReply
from polygen_stream.captions.models.async_model import AsyncLanguageModel

if TYPE_CHECKING:
    import openai
    from openai.types.chat import ChatCompletionMessageParam

# How often the client repeats a request after a failure that may be temporary: no connection, 408, 409, 429 and 5xx. It
# waits 0.5 s, then twice as long each time up to 8 s, or as long as the server says.
RETRIES = 5


class OpenAIModel(AsyncLanguageModel):
    """A chat model of a server. The API key is read from OPENAI_API_KEY; local servers usually need none.

    Args:
        name: the model's name on the server.
        endpoint: base URL, including "/v1".
        temperature: of the sampling.
        top_p: of the sampling.
        max_tokens: length of the longest reply.
        in_flight: the largest number of requests at the same time.
        timeout_s: the longest wait for a reply, including repetitions; after that the reply's fault is "timeout".
        structured_output_regex: a regular expression that every reply must match (an extension of vLLM's server); ""
            for free text.

    Raises:
        UserError: the client is not installed, the server cannot be reached, or it does not serve the model.
    """

    def __init__(
        self,
        name: str,
        *,
        endpoint: str,
        temperature: float,
        top_p: float,
        max_tokens: int,
        in_flight: int,
        timeout_s: float,
        structured_output_regex: str,
    ) -> None:
        try:
            import openai
        except ImportError as problem:
            raise UserError(
                f"captions.source = 'openai' needs the openai package, which the captioner's interpreter does not have "
                f"({problem}): pip install 'polygen-stream[openai]'"
            ) from None
        super().__init__(in_flight)
        self._name, self._endpoint, self._timeout_s = name, endpoint, timeout_s
        self._request: dict[str, Any] = {
            "model": name,
            "temperature": temperature,
            "top_p": top_p,
            "max_tokens": max_tokens,
        }
        if structured_output_regex:
            self._request["extra_body"] = {"structured_outputs": {"regex": structured_output_regex}}
        api_key = secret("OPENAI_API_KEY") or "none"
        try:
            with proxies_for(endpoint):
                self._client = openai.AsyncOpenAI(
                    base_url=endpoint,
                    api_key=api_key,
                    organization=secret("OPENAI_ORG_ID"),
                    project=secret("OPENAI_PROJECT_ID"),
                    timeout=timeout_s,
                    max_retries=RETRIES,
                )
        except UserError:
            raise
        except Exception as problem:  # of the HTTP library below: an address or an environment that it refuses
            raise UserError(f"{endpoint}{through(endpoint)}: no client can be made: {_cause(problem)}") from None
        self._start(self._check_server())

    @property
    def provenance(self) -> Mapping[str, object]:
        """The endpoint, the model's name there, and the sampling."""
        return {"endpoint": self._endpoint, **self._request}

    def close(self) -> None:
        """Close the client and end the thread."""
        if not self._loop.is_closed():
            self._run(self._client.close())
        super().close()

    async def _check_server(self) -> None:
        """Raise UserError if the server does not answer or does not serve the model."""
        import openai

        try:
            async with asyncio.timeout(self._timeout_s):
                served = [model.id async for model in self._client.with_options(max_retries=1).models.list()]
        except openai.NotFoundError:
            return  # the server does not list its models
        except (openai.APIConnectionError, TimeoutError) as problem:
            raise UserError(
                f"{self._endpoint}: no server answers{through(self._endpoint)} ({_cause(problem)}): start it, e.g. "
                f"vllm serve MODEL, or correct captions.endpoint"
            ) from None
        except openai.APIStatusError as problem:
            raise self._status_error(problem) from None
        except (openai.APIError, ValueError, TypeError, AttributeError) as problem:  # the body is something else
            raise UserError(
                f"{self._endpoint}{through(self._endpoint)} answers something else than a list of models "
                f"({type(problem).__name__}): correct captions.endpoint"
            ) from None
        if self._name not in served:
            raise UserError(
                f"{self._endpoint} serves {', '.join(served) or 'no model'}, not {self._name!r}: set captions.writer "
                "and captions.editor to what it serves"
            )

    async def _reply(self, prompt: Messages, seed: int) -> ModelReply:
        import openai

        try:
            # The client's own timeout limits the silence between two parts of a reply, not the whole request.
            async with asyncio.timeout(self._timeout_s):
                reply = await self._client.chat.completions.create(
                    messages=cast("list[ChatCompletionMessageParam]", prompt), seed=seed, **self._request
                )
        except (openai.APITimeoutError, TimeoutError):
            return ModelReply("", finished=False, fault="timeout")
        except openai.APIConnectionError as problem:
            raise PolygenError(
                f"{self._endpoint} cannot be reached any more{through(self._endpoint)} after {RETRIES + 1} attempts: "
                f"{_cause(problem)}"
            ) from None
        except (openai.BadRequestError, openai.UnprocessableEntityError) as problem:
            logging.warning("%s refuses a request: %s", self._endpoint, _cause(problem))
            return ModelReply("", finished=True, fault=f"refused by the server: {problem.status_code}")
        except openai.APIStatusError as problem:
            raise self._status_error(problem) from None
        except (openai.APIError, ValueError) as problem:  # the body cannot be parsed
            logging.warning("%s sends an invalid response: %s", self._endpoint, _cause(problem))
            return ModelReply("", finished=True, fault="no reply in the answer")
        if not getattr(reply, "choices", None):
            return ModelReply("", finished=True, fault="no reply in the answer")
        if reply.usage:
            self.tokens += reply.usage.completion_tokens
        choice = reply.choices[0]
        text = choice.message.content or choice.message.refusal or ""
        return ModelReply(text.strip(), finished=choice.finish_reason != "length")

    def _status_error(self, problem: openai.APIStatusError) -> PolygenError:
        """Return the error for a status that ends the run: repeating cannot help, or has not helped."""
        code = problem.status_code
        if code in (401, 403):
            return UserError(f"{self._endpoint} refuses the key ({code}): set OPENAI_API_KEY")
        if code == 407:
            return UserError(
                f"{self._endpoint} is not reached{through(self._endpoint)}, which wants another login (407): correct "
                "it in the environment"
            )
        if code == 404:
            return UserError(
                f"{self._endpoint} does not know {self._name!r} (404): correct captions.endpoint or the model"
            )
        return PolygenError(f"{self._endpoint} answers {code} after {RETRIES + 1} attempts: {_cause(problem)}")


def _cause(problem: BaseException) -> str:
    """Return what went wrong in a request; the HTTP library's words may have its headers in them."""
    return redact(str(problem.__cause__ or problem or "timeout"))
