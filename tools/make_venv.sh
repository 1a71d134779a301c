#!/bin/sh
# Makes the virtual environment $1 with the first Python of 3.11 or newer, or says what is missing.
# PYTHON= names the one to take.
set -eu

venv=$1
found=
for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        found=$candidate
        break
    fi
done

if [ -z "$found" ]; then
    echo "rollbackd needs Python 3.11 or newer; none of these is: ${PYTHON:-python3, python3.14, ... python3.11}." >&2
    echo "Install one, or name it: make PYTHON=/path/to/python3.11 demo" >&2
    exit 1
fi

if ! "$found" -c 'import venv, ensurepip' 2>/dev/null; then
    echo "$found cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2
    exit 1
fi

echo "Making $venv with $("$found" -c 'import platform, sys; print(sys.executable, platform.python_version())')"
"$found" -m venv --clear "$venv"
