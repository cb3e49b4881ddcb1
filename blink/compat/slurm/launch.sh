# Sourced by the launchers with the project's folder in $root and their name in $name: finds $python and works in $root.
# A relative path of the cluster's settings is relative to the caller's folder.
if [ -n "${BLINK_CLUSTER:-}" ]; then
  BLINK_CLUSTER=$(realpath -m "$BLINK_CLUSTER")
  export BLINK_CLUSTER
fi
cd "$root"
python=${BLINK_PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3) || { echo "$name: no Python here; run make demo once, or set BLINK_PYTHON" >&2; exit 1; }
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
