"""A gRPC server that answers from functions: for what the client does with requests, errors and retries."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from thyme import _proto

# Methods whose answer is an iterable of responses.
STREAMS = ("Rebuild",)
# Methods whose answer is an iterator over one of the requests.
EXCHANGES = ("StreamFeatures",)


class FakeServer:
    """`answers` maps a method to a function of the request, which may call `refuse`. `seen` holds the requests."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.seen: list[tuple[str, Any, dict[str, str]]] = []
        self._server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 16 << 20)])
        self._server.add_generic_rpc_handlers((_Handler(self),))
        self.url = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def stop(self) -> None:
        self._server.stop(None).wait()

    def requests(self, method: str) -> list[Any]:
        return [request for name, request, _ in self.seen if name == method]


class Refusal(Exception):
    """An error with the details that the real server gives."""

    def __init__(self, grpc_code: int, message: str, reason: str = "", field: str = "", hint: str = "", at: str = ""):
        super().__init__(message)
        status = _proto.message("google.rpc.Status")(code=grpc_code, message=message)

        def add(name: str, **values: Any) -> None:
            detail = status.details.add()
            detail.type_url = f"type.googleapis.com/google.rpc.{name}"
            detail.value = _proto.message(f"google.rpc.{name}")(**values).SerializeToString()

        if reason:
            add("ErrorInfo", reason=reason, domain="thyme", metadata={"location": at} if at else {})
        if field:
            add("BadRequest", field_violations=[{"field": field, "description": message}])
        if hint:
            add("LocalizedMessage", locale="en", message=hint)
        self.code = next(code for code in grpc.StatusCode if code.value[0] == grpc_code)
        self.details = status.SerializeToString() if reason else None
        self.part = _proto.ErrorStatus.FromString(status.SerializeToString())

    def abort(self, context: Any) -> None:
        if self.details is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", self.details),))
        context.abort(self.code, str(self))


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def service(self, details: Any) -> Any:
        name = details.method.rpartition("/")[2]
        if name not in self._server.answers:
            return None  # UNIMPLEMENTED
        _, request_class, _ = _proto.methods()[name]

        def answer(request: Any, context: Any) -> Any:
            self._server.seen.append((name, request, dict(context.invocation_metadata())))
            try:
                return self._server.answers[name](request)
            except Refusal as refusal:
                refusal.abort(context)

        def exchange(requests: Any, context: Any) -> Any:
            def seen() -> Any:
                for request in requests:
                    self._server.seen.append((name, request, dict(context.invocation_metadata())))
                    yield request

            try:
                yield from self._server.answers[name](seen())
            except Refusal as refusal:
                refusal.abort(context)

        if name in EXCHANGES:
            answer, make = exchange, grpc.stream_stream_rpc_method_handler
        else:
            make = grpc.unary_stream_rpc_method_handler if name in STREAMS else grpc.unary_unary_rpc_method_handler
        return make(
            answer,
            request_deserializer=request_class.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
