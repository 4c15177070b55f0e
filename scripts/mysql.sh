#!/usr/bin/env bash
# Puts MySQL's own server and client into a folder: scripts/mysql.sh FOLDER makes FOLDER/bin/mysqld, mysql, mysqldump.
# No stable Debian has MySQL. So the packages of Debian's unstable suite are unpacked there, with their own C library
# and loader: nothing is installed, nothing of the system is changed, and root is not needed. Where a MySQL of 8.4
# or newer is on the PATH, it is taken as it is.
set -euo pipefail

to=$1
limit=300 # seconds for each of the two ways to the mirror

die() {
    echo "error: $1" >&2
    echo "error: tests and demo can also do without: give MYSQLD, the path of a mysqld, or TEST_MYSQL_URL, a running MySQL" >&2
    echo "error: of 8.4 or newer (tests alone), or leave the family out: FAMILIES=\"sqlite mariadb postgresql\"" >&2
    exit 1
}

is_mysql() { # PROGRAM: whether it is MySQL's own, 8.4 or newer; MariaDB's has the same name
    local said
    said=$("$1" --no-defaults --version 2>/dev/null) || return 1
    [[ $said != *MariaDB* && $said =~ Ver\ ([0-9]+)\.([0-9]+) ]] || return 1
    ((BASH_REMATCH[1] > 8 || (BASH_REMATCH[1] == 8 && BASH_REMATCH[2] >= 4)))
}

for found in mysqld /usr/sbin/mysqld; do
    if is_mysql "$found"; then exit 0; fi
done
if [[ -x $to/bin/mysqld ]] && is_mysql "$to/bin/mysqld"; then exit 0; fi

for tool in apt-get dpkg dpkg-deb timeout; do
    command -v "$tool" >/dev/null 2>&1 || die "MySQL is fetched from Debian's packages, and there is no $tool here."
done
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null || true)

# apt itself reads its sources, in both of their forms; Debian's own archive is where a suite has the release's name.
archive=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 2>/dev/null |
    awk -v release="$release" '($2 == release || $2 ~ /^(stable|testing|unstable|sid)$/) && $3 == "main" { print $1; exit }')
grep -q '^ID=debian$' /etc/os-release 2>/dev/null && [[ -n $archive ]] ||
    die "MySQL is fetched from Debian's packages, and apt's sources name no archive of Debian."

signed_by() { # the file of keys that the sources give for the archive; nothing where apt's own keys are meant
    local address=${archive%/}
    shopt -s nullglob
    local deb822=(/etc/apt/sources.list.d/*.sources) classic=(/etc/apt/sources.list.d/*.list)
    if [[ -e /etc/apt/sources.list ]]; then classic+=(/etc/apt/sources.list); fi
    {
        ((${#deb822[@]})) && awk -v RS= -v FS='\n' -v address="$address" '
            { key = ""; here = 0
              for (i = 1; i <= NF; i++) {
                  if ($i ~ /^Signed-By:[ \t]*\//) { key = $i; sub(/^Signed-By:[ \t]*/, "", key) }
                  if ($i ~ /^URIs:/ && index($i " ", address)) here = 1
              }
              if (here && key != "") print key }' "${deb822[@]}"
        ((${#classic[@]})) && sed -nE "s#^deb .*signed-by=(/[^] ,]*).*\] *${address//./\\.}/? .*#\1#p" "${classic[@]}"
    } | sed -n '1s/[ \t].*//; 1p'
}

mkdir -p "$(dirname "$to")"
new=$(mktemp -d "$(dirname "$to")/.mysql.XXXXXX") # beside its place, so that it gets there in one step
trap 'rm -rf "$new"' EXIT
new=$(cd "$new" && pwd)
mkdir -p "$new"/apt/{sources,preferences,lists/partial,archives/partial,log} "$new"/root "$new"/bin
: >"$new/apt/status" # no package is installed, so that all that is needed is fetched
keys=$(signed_by || true)
echo "deb ${keys:+[signed-by=$keys] }$archive sid main" >"$new/apt/sources.list"
cat >"$new/apt/apt.conf" <<CONF
APT::Architecture "$(dpkg --print-architecture)";
APT::Architectures "$(dpkg --print-architecture)";
APT::Sandbox::User "";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Post-Invoke;
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Debug::NoLocking "true";
Dir::State "$new/apt";
Dir::State::lists "$new/apt/lists";
Dir::State::status "$new/apt/status";
Dir::State::extended_states "$new/apt/extended_states";
Dir::Cache "$new/apt";
Dir::Cache::archives "$new/apt/archives";
Dir::Etc::sourcelist "$new/apt/sources.list";
Dir::Etc::sourceparts "$new/apt/sources";
Dir::Etc::preferences "$new/apt/none";
Dir::Etc::preferencesparts "$new/apt/preferences";
Dir::Log "$new/apt/log";
CONF

echo "fetching MySQL"
apt() { # what goes wrong is shown, and nothing else
    if ! DEBIAN_FRONTEND=noninteractive timeout --kill-after=10 "$limit" apt-get -c "$new/apt/apt.conf" -qq "$@" \
        </dev/null >"$new/apt/said" 2>&1; then
        tail -n 20 "$new/apt/said" >&2
        die "Debian's packages of MySQL could not be fetched within $limit s ('apt-get $1')."
    fi
}
apt -o APT::Update::Error-Mode=any update
apt install --yes --download-only --no-install-recommends -o APT::Keep-Downloaded-Packages=true \
    mysql-server-core mysql-client-core
for package in "$new"/apt/archives/*.deb; do
    dpkg-deb --extract "$package" "$new/root"
done
rm -rf "$new/apt" "$new"/root/usr/share/{doc,man,locale,perl,mecab} "$new"/root/usr/lib/*/perl*

# The programs run under the loader and the libraries that they were built for, wherever the folder is moved.
library=$(dirname "$(find "$new/root" -name libc.so.6 -print -quit)")
loader=$(find "$new/root" \( -name 'ld-linux*.so.*' -o -name 'ld64.so.*' \) -print -quit)
[[ -e $loader ]] || die "the packages that were fetched hold no loader (ld-linux*.so.*)."
wrap() { # NAME PROGRAM ARGUMENTS...
    local name=$1 program=$2
    shift 2
    {
        echo '#!/bin/bash'
        echo 'here=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)'
        echo "exec \"\$here/${loader#"$new"/}\" --library-path \"\$here/${library#"$new"/}:\$here/root/usr/lib/mysql/private\" \\"
        echo "    \"\$here/root/usr/$program\" \"\$@\" $*" # --no-defaults, where it is said, has to come first
    } >"$new/bin/$name"
    chmod 755 "$new/bin/$name"
}
wrap mysqld sbin/mysqld '--basedir="$here/root/usr" --lc-messages-dir="$here/root/usr/share/mysql"' \
    '--plugin-dir="$here/root/usr/lib/mysql/plugin"'
wrap mysql bin/mysql
wrap mysqldump bin/mysqldump
"$new/bin/mysqld" --version | sed 's/.*Ver/MySQL/; s/ for .*//'
is_mysql "$new/bin/mysqld" || die "what was fetched is no MySQL of 8.4 or newer."

chmod 755 "$new"
rm -rf "$to"
mv "$new" "$to"
