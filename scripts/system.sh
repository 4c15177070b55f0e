#!/usr/bin/env bash
# Installs from Debian's packages what is missing, and only that: scripts/system.sh PYTHON NEED...
#   venv        what `python -m venv` needs
#   build       what mysqlclient is compiled with: a C compiler, Python's headers, MariaDB's client library
#   mariadb     the server's programs, without its service: tests and demo start their own
#   postgresql  likewise
# A service that comes along is not started. Where something is missing and there is no apt-get, it says what.
set -euo pipefail

python=$1
shift
packages=()
where_known=() # those that not every release has

is_debians_python() { [[ $("$python" -c 'import sys; print(sys.base_prefix)') == /usr ]]; }
has() { command -v "$1" >/dev/null 2>&1; }

for need in "$@"; do
    case $need in
        venv)
            if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
                is_debians_python || { echo "error: $python has no ensurepip; use a Python that has it: make setup PYTHON=..." >&2; exit 1; }
                packages+=("$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')")
            fi
            ;;
        build)
            has gcc || packages+=(gcc libc6-dev)
            has pkg-config || packages+=(pkg-config)
            if ! { has pkg-config && { pkg-config --exists libmariadb || pkg-config --exists mysqlclient; }; }; then
                packages+=(libmariadb-dev)
            fi
            headers=$("$python" -c 'import os, sysconfig; print(os.path.join(sysconfig.get_path("include"), "Python.h"))')
            if [[ ! -e $headers ]]; then
                is_debians_python || { echo "error: $python has no headers ($headers); use a Python that has them: make setup PYTHON=..." >&2; exit 1; }
                packages+=("$("$python" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')")
            fi
            ;;
        mariadb)
            # The -core packages: no service, no account, no /var/lib/mysql.
            has mariadbd || [[ -x /usr/sbin/mariadbd ]] || packages+=(mariadb-server-core)
            has my_print_defaults || packages+=(mariadb-client-core)
            # `manage.py test --parallel` clones its database with mysqldump; Debian 13 has that name in a package apart.
            has mysqldump || { packages+=(mariadb-client); where_known+=(mariadb-client-compat); }
            ;;
        postgresql)
            has postgres || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || packages+=(postgresql)
            ;;
        *)
            echo "error: unknown need '$need'" >&2
            exit 2
            ;;
    esac
done

((${#packages[@]})) || exit 0

if ! has apt-get; then
    echo "error: this needs what Debian calls ${packages[*]}, and there is no apt-get here: install them by your system's own means." >&2
    exit 1
fi
as_root=()
if ((EUID != 0)); then
    if ! has sudo; then
        echo "error: these packages are missing, and only root can install them: apt-get install ${packages[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

echo "installing ${packages[*]}"
# Asked by every package that would start its service; 101 is "no". One that is there already is left alone.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
"${apt[@]}" update </dev/null
for package in "${where_known[@]}"; do
    if apt-cache show "$package" >/dev/null 2>&1; then packages+=("$package"); fi
done
"${apt[@]}" install -y --no-install-recommends "${packages[@]}" </dev/null >/dev/null
