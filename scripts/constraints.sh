#!/usr/bin/env bash
# Resolve the project with all its extras in a fresh venv and print exact pins of everything that pip chose.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$root[test,dev,symbols]" hatchling >&2
echo "# Exact versions that CI runs: runtime, extras and build backend. Regenerate with \`make constraints\`."
# setuptools and pip belong to the venv, bootbuild is what is being constrained.
"$work/venv/bin/pip" freeze --exclude bootbuild --exclude setuptools --exclude pip
