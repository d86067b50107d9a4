"""`Client` and `AsyncClient` offer the same: the same methods with the same arguments, and the same is sent."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from fake_server import FakeServer, Refusal

from thyme import _proto, errors
from thyme.aio import AsyncClient
from thyme.client import Client
from thyme.testing import MockContext


def methods(kind):
    return {
        name.replace("__a", "__"): member
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") or name in ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__")
    }


def arguments(method):
    signature = inspect.signature(method)
    result = signature.return_annotation.replace("Async", "")
    return [
        (found.name, found.kind, found.default, found.annotation) for found in signature.parameters.values()
    ], result


def test_the_clients_have_the_same_methods():
    assert methods(Client).keys() == methods(AsyncClient).keys()
    assert {"query", "log", "commit", "plan", "list", "events", "runs", "shape", "close"} <= methods(Client).keys()


@pytest.mark.parametrize("name", methods(Client))
def test_a_method_has_the_same_arguments(name):
    ours, theirs = methods(Client)[name], methods(AsyncClient)[name]
    assert arguments(ours) == arguments(theirs)
    # `query_many` is what `async for` takes.
    assert name in ("__init__", "query_many") or inspect.iscoroutinefunction(theirs)
    assert name.startswith("__") or (ours.__doc__ and theirs.__doc__)


@pytest.mark.parametrize("name", ["query", "query_offline", "lookup", "erase"])
def test_the_context_of_tests_takes_what_the_client_takes(name):
    """By the same names with the same defaults; what has no meaning without a server is left out."""
    ours, theirs = (inspect.signature(getattr(kind, name)).parameters for kind in (MockContext, Client))
    assert [(found.name, found.default) for found in ours.values()] == [
        (found.name, found.default) for found in theirs.values() if found.name in ours
    ]
    assert theirs.keys() - ours.keys() <= {"at_least", "timeout", "progress", "stream"}


@pytest.fixture
def server():
    running = FakeServer()
    states = [2, 1]
    running.answers = {
        "Commit": lambda _: _proto.CommitResponse(commit=_proto.CommitInfo(id="c1", state=1)),
        "GetCommit": lambda _: _proto.GetCommitResponse(commit=_proto.CommitInfo(id="c1", state=states.pop())),
        "Plan": lambda request: _proto.PlanResponse(plan=_proto.PlanInfo(unchanged=not request.remove)),
        "ListEvents": lambda request: _proto.ListEventsResponse(next_cursor=f"{request.limit}{request.severity}"),
        "ListDatasets": lambda _: _proto.ListDatasetsResponse(
            datasets=[_proto.DatasetInfo(name="Order", fields=[_proto.FieldInfo(name="user_id", type="str", key=True)])]
        ),
        "ListQueryRuns": lambda _: _proto.ListQueryRunsResponse(next_cursor="later"),
        "Erase": lambda request: _proto.EraseResponse(erased=len(request.keys), position="pAA"),
    }
    yield running
    running.stop()


QUESTIONS = [
    ("commit", ("{}",), {"message": "first"}),
    ("commit", ("{}",), {"wait": False}),
    ("plan", ("{}", ["Order"]), {}),
    ("list", ("datasets",), {}),
    ("events", (7,), {"severity": "error"}),
    ("runs", (), {"kind": "offline"}),
    ("erase", ("Order", ["u1", {"user_id": "u2"}]), {}),
    ("shape", ("Order", "dataset"), {}),
]


@pytest.mark.parametrize(("name", "given", "named"), QUESTIONS)
def test_both_send_the_same_and_read_the_same(server, name, given, named):
    async def ask():
        async with AsyncClient(server.url, server.url) as client:
            return await getattr(client, name)(*given, **named)

    with Client(server.url, server.url) as client:
        one = getattr(client, name)(*given, **named)
    sent = [(method, request) for method, request, _ in server.seen]
    server.seen.clear()
    states = [2, 1]
    server.answers["GetCommit"] = lambda _: _proto.GetCommitResponse(
        commit=_proto.CommitInfo(id="c1", state=states.pop())
    )
    assert asyncio.run(ask()) == one
    assert [(method, request) for method, request, _ in server.seen] == sent
    assert sent


def test_both_try_again_and_both_give_up(server):
    failures = []

    def flaky(_):
        if failures:
            raise failures.pop()
        return _proto.GetStatusResponse(version="1")

    async def ask():
        async with AsyncClient(server.url, server.url) as client:
            return await client.status()

    async def ask_in_vain():
        async with AsyncClient("http://127.0.0.1:1", "http://127.0.0.1:1", retry_for=0.1) as client:
            await client.status()

    server.answers["GetStatus"] = flaky
    with Client(server.url, server.url) as client:
        for ask_once in (client.status, lambda: asyncio.run(ask())):
            failures[:] = [Refusal(14, "restarting"), Refusal(14, "restarting")]
            assert ask_once()["version"] == "1"
            assert not failures
    with pytest.raises(errors.UnavailableError, match="cannot reach http://127.0.0.1:1"):
        asyncio.run(ask_in_vain())
