"""The gRPC connections of a client, synchronous or asyncio: only how results are waited for differs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from thyme import _proto
from thyme.calls import Call
from thyme.channel import Settings, channel_options
from thyme.errors import ThymeError
from thyme.rpc_errors import from_rpc_error


class Transport:
    """Connections, opened when they are first needed. `module` is `grpc` or `grpc.aio`."""

    def __init__(self, module: Any, settings: Settings) -> None:
        self._module = module
        self._settings = settings
        self._channels: dict[bool, Any] = {}
        self._senders: dict[str, Callable[..., Any]] = {}

    def send(self, call: Call) -> Any:
        """Sends a call: its response, or what to await for it."""
        if call.method not in self._senders:
            path, request, response = _proto.methods()[call.method]
            channel = self._channel(call.control)
            make = channel.unary_stream if call.stream else channel.unary_unary
            self._senders[call.method] = make(
                path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
            )
        timeout = self._settings.timeout or call.timeout
        return self._senders[call.method](call.request, timeout=timeout, metadata=self._settings.metadata)

    def error(self, call: Call, error: grpc.RpcError) -> ThymeError:
        """What the failure of a call means."""
        return from_rpc_error(error, self._settings.place(call.control).url)

    def close(self) -> list[Any]:
        """Closes the connections; with asyncio, what to await for it."""
        closed = [channel.close() for channel in self._channels.values()]
        self._channels.clear()
        self._senders.clear()
        return closed

    def _channel(self, control: bool) -> Any:
        if control not in self._channels:
            place, options = self._settings.place(control), channel_options()
            self._channels[control] = (
                self._module.secure_channel(place.target, grpc.ssl_channel_credentials(), options)
                if place.secure
                else self._module.insecure_channel(place.target, options)
            )
        return self._channels[control]
