# Sourced by scripts that run servers: build in the checkout as the caller, put
# what is needed into a temporary folder, run there as an unprivileged user
# (PostgreSQL refuses to run as root, and the checkout may be unreadable for
# others), stop and remove everything at the end, however it ends.
#
#   stage_build            build module, sandbox, gateway and test programs, or show why not
#   stage_create NAME      make the folder $stage: install/, tree/, tmp/, log/
#   stage_run COMMAND...   run a command of the tree there
#   stage_collect          copy logs and differences to ./log
#   stage_remove           stop what runs there and remove it

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stage=
stage_child=

major=${PG_MAJOR:-15}
if [ -z "${PG_CONFIG:-}" ]; then
    PG_CONFIG=/usr/lib/postgresql/$major/bin/pg_config
    [ -x "$PG_CONFIG" ] || PG_CONFIG=pg_config
fi
export PG_CONFIG
# those of a calling make would reach the makes below
unset MAKEFLAGS MFLAGS MAKELEVEL

if [ "$(id -u)" = 0 ]; then
    stage_user=${PAYMENT_USER:-postgres}
else
    stage_user=$(id -un)
fi

stage_step() {
    printf '\n== %s\n' "$*"
}

stage_make() {
    make --no-print-directory -C "$top" -j"$(nproc)" PG_CONFIG="$PG_CONFIG" "$@"
}

stage_build() {
    local log started=$SECONDS
    log=$(mktemp)
    stage_step "build: PostgreSQL $("$PG_CONFIG" --version | cut -d' ' -f2)"
    if ! stage_make all sandbox gateway ledger-model > "$log" 2>&1; then
        tail -n 40 "$log" >&2
        rm -f "$log"
        echo "build failed" >&2
        return 1
    fi
    grep -E 'warning:|error:' "$log" >&2 || true
    rm -f "$log"
    echo "   built in $((SECONDS - started)) s"
}

# The first folder where the unprivileged user may run programs.
stage_base() {
    local base probe
    for base in "${PAYMENT_TMPDIR:-/tmp}" /tmp /var/tmp; do
        probe=$(mktemp "$base/payment.XXXXXX" 2> /dev/null) || continue
        printf '#!/bin/sh\n' > "$probe"
        chmod 755 "$probe"
        if stage_as_user "$probe" 2> /dev/null; then
            rm -f "$probe"
            echo "$base"
            return
        fi
        rm -f "$probe"
    done
    echo "no temporary folder allows $stage_user to run programs; name one in PAYMENT_TMPDIR" >&2
    return 1
}

stage_as_user() {
    if [ "$(id -u)" = 0 ]; then
        runuser -u "$stage_user" -- "$@"
    else
        "$@"
    fi
}

stage_create() {
    local base
    base=$(stage_base)
    stage=$(mktemp -d "$base/payment-$1.XXXXXX")
    mkdir -p "$stage"/{install,tree/sandbox,tree/gateway,tmp,log}
    stage_make -s install DESTDIR="$stage/install" > "$stage/log/install.log" 2>&1 || {
        tail -n 20 "$stage/log/install.log" >&2
        return 1
    }
    (cd "$top" && cp -R Makefile payment.control payment--*.sql script test demo \
        README.md LICENSE docs "$stage/tree/" &&
        cp sandbox/payment-sandbox sandbox/README.md "$stage/tree/sandbox/" &&
        cp gateway/payment-gateway gateway/*.[ch] gateway/*.service gateway/README.md "$stage/tree/gateway/" &&
        mkdir -p "$stage/tree/src" && cp src/errcodes.h "$stage/tree/src/")
    for optional in expected bench; do
        [ ! -d "$top/$optional" ] || cp -R "$top/$optional" "$stage/tree/"
    done
    mkdir -p "$stage/tree/expected"
    # what the fuzzers of the pure parsers are built from
    (cd "$top" && find src worker -name '*.[ch]' -exec cp --parents {} "$stage/tree/" \;)
    chmod -R u+rwX "$stage"
    [ "$(id -u)" != 0 ] || chown -R "$stage_user:" "$stage"
}

# A clean environment: neither the caller's PGHOST nor a proxy may lead the
# servers astray.  In the background, so that a signal is handled at once.
stage_run() {
    local pass=() name
    for name in TERM TESTS PG_CONFIG ${!PAYMENT_@}; do
        [ -z "${!name:-}" ] || pass+=("$name=${!name}")
    done
    (
        cd "$stage/tree" || exit
        stage_as_user env -i --default-signal=INT,QUIT "${pass[@]}" \
            HOME="$stage" TMPDIR="$stage/tmp" LC_ALL=C.UTF-8 TZ=UTC \
            PATH="$("$PG_CONFIG" --bindir):/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" \
            PAYMENT_STAGE="$stage" \
            PAYMENT_DESTDIR="$stage/install" \
            PAYMENT_SANDBOX="$stage/tree/sandbox/payment-sandbox" \
            PAYMENT_GATEWAY="$stage/tree/gateway/payment-gateway" \
            "$@"
    ) &
    stage_child=$!
    local status=0
    wait "$stage_child" || status=$?
    stage_child=
    return "$status"
}

# Ids of the processes that run for this stage: they carry its name in the
# environment; PostgreSQL writes over its own, but lives in its data folder.
stage_processes() {
    local file
    {
        grep -lzxF "PAYMENT_STAGE=$stage" /proc/[0-9]*/environ || true
        find /proc -maxdepth 2 -path '/proc/[0-9]*/cwd' -lname "$stage/*" || true
    } 2> /dev/null | while read -r file; do
        if [[ $file == */environ || $(readlink "${file%/*}/exe") == */postgres* ]]; then
            cut -d/ -f3 <<< "$file"
        fi
    done | sort -un
}

# First politely, then a crash's way, then without asking.
stage_kill() {
    local signal pids turn
    for signal in TERM QUIT KILL; do
        for turn in $(seq 30); do
            pids=$(stage_processes)
            [ -n "$pids" ] || return 0
            if [ "$turn" = 1 ]; then
                # shellcheck disable=SC2086
                kill -s "$signal" $pids 2> /dev/null || true
            fi
            sleep 0.2
        done
    done
}

stage_collect() {
    [ -n "$stage" ] && [ -d "$stage" ] || return 0
    rm -rf "$top/log"
    mkdir -p "$top/log"
    cp -R "$stage/log/." "$top/log/" 2> /dev/null || true
    [ ! -d "$stage/tree/tmp_check/log" ] || cp -R "$stage/tree/tmp_check/log" "$top/log/tap"
}

stage_remove() {
    [ -n "$stage" ] && [ -d "$stage" ] || return 0
    stage_kill
    rm -rf "$stage"
    stage=
}

stage_trap() {
    trap stage_remove EXIT
    trap 'exit 129' HUP
    trap 'echo; echo "interrupted: stopping the servers"; exit 130' INT
    trap 'exit 143' TERM
}
