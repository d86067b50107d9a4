"""The ways in, as a stranger uses them: HTTP and a stock Flight client (besides `Server.client` and `Server.run`)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pyarrow as pa
import pyarrow.flight as flight

from harness import Server


def http(url: str, body: object = None) -> tuple[int, dict[str, object]]:
    """Status and JSON. `body` is posted: bytes as they are, anything else as JSON."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        assert error.headers["content-type"].startswith("application/problem+json")
        problem = json.loads(error.read())
        assert problem["status"] == error.code and problem["code"] and problem["error"] in problem["detail"], problem
        return error.code, problem


def metrics(address: str) -> dict[str, float]:
    """The samples of `/metrics`, by name and labels as they are written there."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    samples = [line.rpartition(" ") for line in lines if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in samples}


def slices_of(server: Server) -> int:
    """How many slices of the work it owns; none before it is among those that share it."""
    return int(metrics(server.queries).get("thyme_slices_owned", 0))


def share(servers: list[Server]) -> bool:
    """Whether each has its share of the slices; of a single one there is no more to have."""
    owned = [slices_of(server) for server in servers]
    return sum(owned) == servers[0].status()["slices"] and max(owned) - min(owned) <= 1


def _descriptor(command: dict[str, object]) -> flight.FlightDescriptor:
    return flight.FlightDescriptor.for_command(json.dumps(command).encode())


def put(server: Server, rows: pa.Table | pa.RecordBatchReader, **command: object) -> dict[str, object]:
    """Bulk ingest, or a spine; the last result, which counts everything."""
    batches = rows.to_reader() if isinstance(rows, pa.Table) else rows
    with flight.connect(f"grpc://{server.queries}") as client:
        writer, reader = client.do_put(_descriptor(command), rows.schema)
        with writer:
            for batch in batches:
                writer.write_batch(batch)
            writer.done_writing()
            last = b"{}"
            while (result := reader.read()) is not None:
                last = result.to_pybytes()
    return json.loads(last)


def flight_info(server: Server, **command: object) -> flight.FlightInfo:
    """Where the parts of an export are joined."""
    with flight.connect(f"grpc://{server.queries}") as client:
        return client.get_flight_info(_descriptor(command))


def tickets(told: flight.FlightInfo) -> list[flight.Ticket]:
    """Of its parts, in order."""
    return [endpoint.ticket for endpoint in told.endpoints]


def pin(told: flight.FlightInfo) -> str:
    """What its parts stand on."""
    return told.schema.metadata[b"thyme.pin"].decode()


def drop_spine(server: Server, spine_id: str) -> None:
    """Removes a spine that was put."""
    with flight.connect(f"grpc://{server.queries}") as client:
        list(client.do_action(flight.Action("drop_spine", spine_id.encode())))


def exchange(
    server: Server, spine: pa.Table, options: flight.FlightCallOptions | None = None, **command: object
) -> pa.Table:
    """Bulk export."""
    with flight.connect(f"grpc://{server.queries}") as client:
        writer, reader = client.do_exchange(_descriptor(command), options)
        with writer:
            writer.begin(spine.schema)
            writer.write_table(spine)
            writer.done_writing()
            return reader.read_all()
