#!/usr/bin/env bash
# s3.sh VENV: puts moto's S3 server into the virtual environment, where it is missing; tests of checkpoints store to it. Of what moto
# could bring, S3 alone: all of it takes a minute to install.
set -euo pipefail
venv="$1"
"$venv/bin/python" -c 'import moto.server' 2>/dev/null && exit 0
echo "== installing the S3 server of the tests"
"$venv/bin/pip" install -q --no-compile "moto[s3]>=5,<6" flask flask-cors
