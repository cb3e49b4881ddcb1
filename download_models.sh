#!/usr/bin/env bash
# Downloads the published models and data listed in models/MANIFEST.json; see --help. The program is blink/apps/download, which
# needs python3 alone: isolated (-I), without installed packages (-S) or compiled files (-B), with this checkout in front of the standard library.
set -eu
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
if ! command -v python3 >/dev/null; then
    echo "download_models.sh: needs the program 'python3', which is not on PATH; install it, then run again" >&2
    exit 1
fi
exec python3 -I -S -B -c 'import sys, pathlib; root = sys.argv.pop(1); sys.path.insert(0, root)
from blink.stopping import program
sys.exit(program("download_models.sh", "blink.apps.download.commands:main")(pathlib.Path(root)))' "$root" "$@"
