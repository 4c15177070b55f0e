#!/usr/bin/env bash
# The long version of everything. A step that passed leaves .verify/STEP with the commit that it passed on,
# and is not run again until `make verify-clean`; so a run that was interrupted, or failed, goes on there.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .verify

commit() { git describe --always --dirty --exclude='*'; }

step() { # NAME COMMAND...
    local name=$1 began=$SECONDS
    shift
    if [[ -e .verify/$name ]]; then
        echo "verify: $name passed already on $(<".verify/$name")"
        return
    fi
    echo "verify: $name ..."
    "$@"
    commit >".verify/$name"
    echo "verify: $name passed in $((SECONDS - began)) s"
}

fresh_clone() ( # what is committed, in a folder with another name, twice: the second run finds everything set up
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    git clone --quiet --no-hardlinks . "$folder/another-name"
    for run in first second; do
        began=$SECONDS
        make -C "$folder/another-name" demo ONCE=1
        make -C "$folder/another-name" test
        echo "verify: the $run run in a fresh clone took $((SECONDS - began)) s"
    done
)

step lint make lint
# Development mode, which asyncio then has too, is slow; `make test` is without it.
step test env VERIFY=1 PYTHONDEVMODE=1 make test
step test-mysql env VERIFY=1 make test FAMILIES=mysql
step faults-tls env TEST_TLS=1 make test ARGS="-m faults"
step faults-uvloop env TEST_LOOP=uvloop make test ARGS="-m faults"
step shared-tx env SHARED_TX_PROGRAMS=2000 make test ARGS="tests/bridge/test_shared_tx_programs.py"
step kill-switch env ASYNC_DB_MODE=threads make test ARGS="tests/bridge -m 'not native_only'"
step docs make docs
step demo-sqlite make demo ONCE=1
step demo-mariadb make demo ONCE=1 DB=mariadb
step demo-postgresql make demo ONCE=1 DB=postgresql
step demo-mysql make demo ONCE=1 DB=mysql
step bench make bench
step projects make projects
step soak make soak
# An interrupted run goes on with the groups that it had not come to.
step conformance make conformance ARGS=--resume
for env in $(.venv/bin/tox list --no-desc -q); do
    minor=${env#py3}
    if .venv/bin/uv python find --quiet --system --no-python-downloads "3.${minor%%-*}" >/dev/null 2>&1; then
        step "tox-$env" .venv/bin/tox run -e "$env"
    else
        echo "verify: tox-$env skipped: there is no Python 3.${minor%%-*} on the PATH"
    fi
done
# The other Django: .venv's Python where it can run it, else (3.11 cannot) the newest that is here.
other=$(.venv/bin/python -c 'import django; print({5: 61, 6: 52}[django.VERSION[0]])')
done_with=
for minor in $(.venv/bin/python -c 'import sys; print(sys.version_info.minor)') 14 13 12; do
    if ((minor > 11)) && .venv/bin/uv python find --quiet --system --no-python-downloads "3.$minor" >/dev/null 2>&1; then
        step "conformance-django$other" .venv/bin/tox run -e "py3$minor-django$other-conformance" -- --resume
        done_with=3.$minor
        break
    fi
done
[[ -n $done_with ]] || echo "verify: conformance-django$other skipped: it needs Python 3.12 or newer"
step fresh-clone fresh_clone

stale=$(grep -Lx -- "$(commit)" .verify/* || true)
if [[ -n $stale ]]; then
    echo "verify: all passed, but on an earlier commit than $(commit): ${stale//$'\n'/ } (make verify-clean starts anew)"
else
    echo "verify: all passed on $(commit)"
fi
