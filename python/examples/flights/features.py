"""What is known of an aircraft, a carrier and an airport at the moment a flight leaves New York.

Two streams, each flight at its actual times: it leaves (`Departure`) and it lands (`Arrival`). Only the arrival carries
the delay, so nothing is known before it happened. Flights come in the order of their schedule; the real times are up to
32 hours out of order, so both datasets wait 36 hours before an event counts as late.
"""

from __future__ import annotations

from datetime import datetime

from thyme import (
    ApproxPercentile,
    Avg,
    Count,
    Last,
    Max,
    Sum,
    col,
    dataset,
    extractor,
    extractor_inputs,
    extractor_outputs,
    feature,
    featureset,
    field,
    inputs,
    pipeline,
    when,
)

LATE_MINUTES = 15


@dataset(index=True, version=1, max_lateness="36h", description="A flight left its gate in New York.")
class Departure:
    tailnum: str = field(key=True, description="the aircraft")
    departed: datetime = field(timestamp=True)
    carrier: str
    flight: int
    origin: str
    dest: str
    distance: int = field(description="miles")


@dataset(index=True, version=1, max_lateness="36h", description="A flight from New York landed.")
class Arrival:
    tailnum: str = field(key=True, description="the aircraft")
    arrived: datetime = field(timestamp=True)
    carrier: str
    flight: int
    origin: str
    dest: str
    delay: int | None = field(description="minutes behind schedule; none for a diverted flight")


@dataset(index=True, version=1)
class AircraftDepartures:
    tailnum: str = field(key=True)
    ts: datetime = field(timestamp=True)
    departures_24h: int
    miles_7d: int
    last_origin: str | None

    @pipeline(version=1)
    @inputs(Departure)
    def compute(cls, departures):
        return departures.groupby("tailnum").aggregate(
            departures_24h=Count(window="24h"),
            miles_7d=Sum(of="distance", window="7d"),
            last_origin=Last(of="origin", window="30d"),
        )


@dataset(index=True, version=1)
class AircraftArrivals:
    tailnum: str = field(key=True)
    ts: datetime = field(timestamp=True)
    arrivals_30d: int
    late_30d: int
    avg_delay_7d: float | None
    max_delay_24h: int | None
    last_delay: int | None
    p90_delay_30d: float | None

    @pipeline(version=1)
    @inputs(Arrival)
    def compute(cls, arrivals):
        return arrivals.groupby("tailnum").aggregate(
            arrivals_30d=Count(of="delay", window="30d"),
            late_30d=Count(window="30d", where=col("delay") > LATE_MINUTES),
            avg_delay_7d=Avg(of="delay", window="7d"),
            max_delay_24h=Max(of="delay", window="24h"),
            last_delay=Last(of="delay", window="30d", dropnull=True),
            p90_delay_30d=ApproxPercentile(of="delay", window="30d", pct=90),
        )


@dataset(index=True, version=1)
class CarrierDepartures:
    carrier: str = field(key=True)
    ts: datetime = field(timestamp=True)
    departures_1h: int

    @pipeline(version=1)
    @inputs(Departure)
    def compute(cls, departures):
        return departures.groupby("carrier").aggregate(departures_1h=Count(window="1h"))


@dataset(index=True, version=1)
class CarrierArrivals:
    carrier: str = field(key=True)
    ts: datetime = field(timestamp=True)
    avg_delay_24h: float | None
    late_share_7d: float | None

    @pipeline(version=1)
    @inputs(Arrival)
    def compute(cls, arrivals):
        return (
            arrivals.filter(col("delay").is_not_null())
            .assign(is_late=when(col("delay") > LATE_MINUTES).then(1).otherwise(0))
            .groupby("carrier")
            .aggregate(
                avg_delay_24h=Avg(of="delay", window="24h"),
                late_share_7d=Avg(of="is_late", window="7d"),
            )
        )


@dataset(index=True, version=1)
class OriginDepartures:
    origin: str = field(key=True)
    ts: datetime = field(timestamp=True)
    departures_1h: int

    @pipeline(version=1)
    @inputs(Departure)
    def compute(cls, departures):
        return departures.groupby("origin").aggregate(departures_1h=Count(window="1h"))


@dataset(index=True, version=1)
class OriginArrivals:
    origin: str = field(key=True)
    ts: datetime = field(timestamp=True)
    avg_delay_1h: float | None
    avg_delay_24h: float | None

    @pipeline(version=1)
    @inputs(Arrival)
    def compute(cls, arrivals):
        return arrivals.groupby("origin").aggregate(
            avg_delay_1h=Avg(of="delay", window="1h"),
            avg_delay_24h=Avg(of="delay", window="24h"),
        )


@featureset(description="What is known when a flight leaves, by aircraft, carrier and airport.")
class FlightFeatures:
    tailnum: str = feature(id=1)
    carrier: str = feature(id=2)
    origin: str = feature(id=3)

    aircraft_departures_24h: int = feature(id=4, ref=AircraftDepartures.departures_24h)
    aircraft_miles_7d: int = feature(id=5, ref=AircraftDepartures.miles_7d)
    aircraft_last_origin: str | None = feature(id=6, ref=AircraftDepartures.last_origin)
    aircraft_arrivals_30d: int = feature(id=7, ref=AircraftArrivals.arrivals_30d)
    aircraft_late_30d: int = feature(id=8, ref=AircraftArrivals.late_30d)
    aircraft_avg_delay_7d: float | None = feature(id=9, ref=AircraftArrivals.avg_delay_7d)
    aircraft_max_delay_24h: int | None = feature(id=10, ref=AircraftArrivals.max_delay_24h)
    aircraft_last_delay: int | None = feature(id=11, ref=AircraftArrivals.last_delay)
    aircraft_p90_delay_30d: float | None = feature(id=12, ref=AircraftArrivals.p90_delay_30d)
    aircraft_late_share: float = feature(id=13)
    aircraft_risk: float = feature(id=14)

    carrier_departures_1h: int = feature(id=15, ref=CarrierDepartures.departures_1h)
    carrier_avg_delay_24h: float | None = feature(id=16, ref=CarrierArrivals.avg_delay_24h)
    carrier_late_share_7d: float | None = feature(id=17, ref=CarrierArrivals.late_share_7d)

    origin_departures_1h: int = feature(id=18, ref=OriginDepartures.departures_1h)
    origin_avg_delay_1h: float | None = feature(id=19, ref=OriginArrivals.avg_delay_1h)
    origin_avg_delay_24h: float | None = feature(id=20, ref=OriginArrivals.avg_delay_24h)

    @extractor(version=1)
    @extractor_inputs("aircraft_late_30d", "aircraft_arrivals_30d")
    @extractor_outputs("aircraft_late_share")
    def late_share(cls, ts, late, arrivals):
        return (late + 1) / (arrivals + 5)  # drawn to one in five where little is known

    @extractor(version=1)
    @extractor_inputs("aircraft_late_share", "aircraft_last_delay")
    @extractor_outputs("aircraft_risk")
    def risk(cls, ts, share, last_delay):
        return share * (1.0 + max(last_delay or 0, 0) / 60)
