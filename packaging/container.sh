#!/bin/sh
# Install a built wheel into a venv of its own, from binary packages only, and show that it works.
# The container image is made by this, and tests/packaging runs it where there is no compiler, no other
# tool and no home: it uses sh and python3 alone.
#
# usage: container.sh FOLDER_OF_THE_WHEEL CONSTRAINTS PREFIX
set -eu
constraints=$2
prefix=$3

python3 -m venv "$prefix"
for wheel in "$1"/bootbuild-*.whl; do
	"$prefix/bin/python" -m pip install --quiet --no-cache-dir --disable-pip-version-check \
		--only-binary :all: --constraint "$constraints" "$wheel"
done

"$prefix/bin/bootbuild" --version
"$prefix/bin/bootbuild" --help
# An installation is proved by a boot.
"$prefix/bin/bootbuild" new hello "$prefix/hello"
"$prefix/bin/bootbuild" "$prefix/hello/hello.toml"
