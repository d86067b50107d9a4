"""A machine that is gone, beside a Kafka log: another one begins with the newest checkpoint and the log."""

from __future__ import annotations

import random
import shutil
import time

from kafka_broker import Broker
from load import Load
from shop import SOURCE


def test_another_machine_goes_on_where_the_first_one_ended(make_server, tmp_path):
    broker = Broker()
    try:
        env = {
            "THYME_LOG__URL": f"kafka://{broker.address}/shop",
            "THYME_CHECKPOINTS__URL": f"file://{tmp_path / 'store'}",
            "THYME_CHECKPOINTS__INTERVAL_S": "1",
        }
        server = make_server(env=env).start()
        assert server.commit(SOURCE).returncode == 0
        load = Load(server, random.Random(3), retry_for=180)
        for _ in range(2):
            load.pause(3.0, 4.0)
            server.kill()
            # State and catalog: all that there was.
            shutil.rmtree(server.directory / "data")
            server.start()
            # Its name is a new one, so that it owns the work only when the broker has given up the old one.
            server.wait_ready()
            assert server.data("status")["checkpoints"]["restored"] is not None
        load.pause(1.0, 1.0)
        load.finish(timeout=300)
        load.check()
        time.sleep(3)
        assert server.data("rebuild")["equal"]
        server.stop()
        # Beside another prefix the checkpoints are of another log.
        shutil.rmtree(server.directory / "data")
        server.env["THYME_LOG__URL"] = f"kafka://{broker.address}/other"
        refused = server.serve_to_end()
        assert refused.returncode == 1 and "checkpoints of another log" in refused.stderr, refused.stderr
        server.stop()
    finally:
        broker.close()
