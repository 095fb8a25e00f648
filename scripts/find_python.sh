#!/bin/sh
# Print the first Python that is 3.11 or newer and can create a virtual environment; $PYTHON names another candidate.
for candidate in ${PYTHON:-} python3.11 python3.12 python3 python3.13 python; do
    if "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
done
echo "tips-bench needs Python 3.11 or newer with its venv module, and found none." \
    "Install it (on Debian: apt-get install python3 python3-venv) or name one: make PYTHON=/path/to/python3.11" >&2
exit 1
