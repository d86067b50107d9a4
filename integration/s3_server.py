"""A real S3 server for a test: moto's, in a process of its own, with an empty bucket; gone when the test is, and away
while a test wants it."""

from __future__ import annotations

import contextlib
import subprocess
import sys

SERVE = """
import sys
import boto3
from moto.server import DomainDispatcherApplication, ThreadedMotoServer
is_away = False
answer = DomainDispatcherApplication.__call__
def answer_or_not(self, environ, start_response):
    if is_away:
        start_response("503 Service Unavailable", [("Content-Length", "0")])
        return []
    return answer(self, environ, start_response)
DomainDispatcherApplication.__call__ = answer_or_not
server = ThreadedMotoServer(port=0, verbose=False)
server.start()
url = "http://127.0.0.1:%d" % server.get_host_and_port()[1]
keys = dict(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
boto3.client("s3", endpoint_url=url, **keys).create_bucket(Bucket="thyme")
print(url, flush=True)
for line in sys.stdin:
    is_away = line.strip() == "away"
    print("done", flush=True)
"""


class S3:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http://"), "no S3 server; tools/s3.sh installs it"

    def env(self) -> dict[str, str]:
        """Of a server that stores its checkpoints here."""
        return {
            "THYME_CHECKPOINTS__URL": "s3://thyme/shop",
            "THYME_CHECKPOINTS__ENDPOINT": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }

    def tell(self, command: str) -> None:
        """`away`: whatever is asked, it says that it cannot answer now. `back`: all is there as before."""
        print(command, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline() == "done\n"

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.kill()
            self.process.wait(timeout=30)
