#!/usr/bin/env bash
# Prints the newest Python of this machine that runs the newest Django (3.12 or later, of those that pyproject.toml
# promises): from the PATH, or one of pyenv's. Fails, and says so, where there is none.
set -euo pipefail
cd "$(dirname "$0")/.."

fits() { # PYTHON MINOR: it starts, is what its name says, and can make an environment
    "$1" -c "import ensurepip, sqlite3, sys, venv; sys.exit(sys.version_info[:2] != (3, $2))" >/dev/null 2>&1
}

shopt -s nullglob
for minor in $(sed -n 's/.*"Programming Language :: Python :: 3\.\([0-9]*\)".*/\1/p' pyproject.toml | sort -rn); do
    ((minor >= 12)) || break
    for python in $(type -ap "python3.$minor") "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3."$minor".*/bin/python3."$minor"; do
        if fits "$python" "$minor"; then
            echo "$python"
            exit
        fi
    done
done
echo "error: no Python 3.12 or newer, which Django 6.1 needs, on the PATH or under pyenv: install one" >&2
exit 1
