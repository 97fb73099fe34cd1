#!/usr/bin/env bash
# Run every check and figure of gpu.py on the GPU of this machine, in less than 10 minutes.
# The result is gpu.json, or the file after -o; the exit code is 1 if a check failed.
set -eu
here="$(cd "$(dirname "$0")" && pwd)"
python="$here/../.venv/bin/python"
[ -x "$python" ] || python=python3
PYTHONPATH="$here/../src${PYTHONPATH:+:$PYTHONPATH}" \
    exec timeout 590 "$python" "$here/gpu.py" --minutes 9 "$@"
