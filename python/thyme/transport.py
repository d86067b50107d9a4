"""The gRPC connections of a client, synchronous or asyncio: only how results are waited for differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from thyme import _proto
from thyme.calls import Call
from thyme.channel import Settings, channel_options
from thyme.errors import ThymeError
from thyme.result import ThymeResult
from thyme.rpc_errors import from_part, from_rpc_error


class Transport:
    """Connections, opened when they are first needed. `module` is `grpc` or `grpc.aio`."""

    def __init__(self, module: Any, settings: Settings) -> None:
        self._module = module
        self._settings = settings
        self._channels: dict[bool, Any] = {}
        self._senders: dict[str, Callable[..., Any]] = {}

    def send(self, call: Call) -> Any:
        """Sends a call: its response, or what to await for it."""
        kind = "unary_stream" if call.stream else "unary_unary"
        return self._sender(call.method, call.control, kind)(
            call.request, timeout=self._timeout(call), metadata=self._settings.metadata
        )

    def open(self, requests: Any) -> Any:
        """A stream of questions: the stream of their responses. It has no deadline, each question has its own."""
        return self._sender("StreamFeatures", False, "stream_stream")(requests, metadata=self._settings.metadata)

    def streamed(self, sequence: int, question: Call) -> Any:
        """A question as a message of such a stream."""
        micros = round(self._timeout(question) * 1e6)
        timeout = {"seconds": micros // 1_000_000, "nanos": micros % 1_000_000 * 1000}
        return _proto.StreamFeaturesRequest(sequence=sequence, request=question.request, timeout=timeout)

    def outcome(self, question: Call, response: Any) -> ThymeResult:
        """Reads the response to it.

        Raises:
            ThymeError: what the server found wrong with this question.
        """
        if response.WhichOneof("outcome") == "error":
            raise from_part(response.error, self._settings.place(question.control).url)
        return question.read(response.response)

    def error(self, call: Call, error: grpc.RpcError) -> ThymeError:
        """What the failure of a call means."""
        return from_rpc_error(error, self._settings.place(call.control).url)

    def close(self) -> list[Any]:
        """Closes the connections; with asyncio, what to await for it."""
        closed = [channel.close() for channel in self._channels.values()]
        self._channels.clear()
        self._senders.clear()
        return closed

    def _timeout(self, call: Call) -> float:
        return self._settings.timeout or call.timeout

    def _sender(self, method: str, control: bool, kind: str) -> Callable[..., Any]:
        if method not in self._senders:
            path, request, response = _proto.methods()[method]
            self._senders[method] = getattr(self._channel(control), kind)(
                path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
        return self._senders[method]

    def _channel(self, control: bool) -> Any:
        if control not in self._channels:
            place, options = self._settings.place(control), channel_options()
            self._channels[control] = (
                self._module.secure_channel(place.target, grpc.ssl_channel_credentials(), options)
                if place.secure
                else self._module.insecure_channel(place.target, options)
            )
        return self._channels[control]
