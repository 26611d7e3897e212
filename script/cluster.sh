# Sourced by scripts that run inside a stage (see stage.sh), as an unprivileged
# user: private clusters on unix sockets only, the sandbox on a loopback port
# of its own choice, waiting with a deadline, and saying what goes on.
#
#   step TEXT; note TEXT               what is being done, with the time so far
#   cluster_start NAME [SETTING...]    a new server; sets PGHOST PGPORT PGUSER
#   cluster_stop NAME                  stop it
#   database_create NAME [EXTENSION…]  a database with those extensions
#   sql DATABASE TEXT [psql option…]   run it, bare rows on stdout
#   wait_until DATABASE SQL SECONDS WHAT   until the SQL says true
#   secret_write NAME VALUE            a file for the worker in secrets_dir
#   sandbox_start [flag…]              sets SANDBOX_URL; sandbox_stop.  Outlives the shell
#   sandbox_get PATH; sandbox_post PATH FORM   talk to it

[ -n "${PAYMENT_STAGE:-}" ] || { echo "cluster.sh works in a stage only" >&2; exit 1; }

bindir=$("$PG_CONFIG" --bindir)
pkglibdir=$("$PG_CONFIG" --pkglibdir)
sockets=$PAYMENT_STAGE/tmp
secrets=$PAYMENT_STAGE/secrets
export PGUSER=postgres PGHOST=$sockets PGPORT=5432

step() {
    printf '\n== %s  [%d:%02d]\n' "$*" $((SECONDS / 60)) $((SECONDS % 60))
}

note() {
    printf '   %s\n' "$*"
}

cluster_data() {
    echo "$PAYMENT_STAGE/cluster-$1"
}

# Settings are lines of postgresql.conf.
cluster_start() {
    local name=$1 data
    shift
    data=$(cluster_data "$name")
    install -d -m 700 "$secrets"
    "$bindir/initdb" -D "$data" -U "$PGUSER" -A trust -E UTF8 --locale=C -N \
        > "$PAYMENT_STAGE/log/initdb-$name.log" 2>&1 || {
        cat "$PAYMENT_STAGE/log/initdb-$name.log" >&2
        return 1
    }
    {
        cat << CONF
listen_addresses = ''
unix_socket_directories = '$sockets'
unix_socket_permissions = 0700
port = $PGPORT
extension_destdir = '$PAYMENT_DESTDIR'
dynamic_library_path = '$PAYMENT_DESTDIR$pkglibdir:\$libdir'
shared_preload_libraries = 'payment,pg_cron'
payment.secrets_dir = '$secrets'
cron.host = '$sockets'
max_worker_processes = 32
log_line_prefix = '%m [%p] %b %q%u@%d '
CONF
        printf '%s\n' "$@"
    } >> "$data/postgresql.conf"
    "$bindir/pg_ctl" -D "$data" -l "$PAYMENT_STAGE/log/server-$name.log" -w -t 60 \
        start > /dev/null || {
        tail -n 30 "$PAYMENT_STAGE/log/server-$name.log" >&2
        return 1
    }
}

cluster_stop() {
    local data
    data=$(cluster_data "$1")
    [ ! -f "$data/postmaster.pid" ] ||
        "$bindir/pg_ctl" -D "$data" -w -t 60 -m fast stop > /dev/null
}

database_create() {
    local name=$1 extension
    shift
    "$bindir/createdb" "$name"
    for extension in "$@"; do
        sql "$name" "CREATE EXTENSION $extension"
    done
}

sql() {
    local database=$1 text=$2
    shift 2
    "$bindir/psql" -X -q -A -t -v ON_ERROR_STOP=1 -d "$database" "$@" -c "$text"
}

wait_until() {
    local database=$1 condition=$2 seconds=$3 what=$4 deadline
    deadline=$((SECONDS + seconds))
    until [ "$(sql "$database" "$condition" 2> /dev/null)" = t ]; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            echo "gave up after $seconds s waiting for: $what" >&2
            tail -n 20 "$PAYMENT_STAGE"/log/server-*.log >&2
            return 1
        fi
        sleep 0.2
    done
}

secret_write() {
    install -d -m 700 "$secrets"
    (umask 077 && printf '%s' "$2" > "$secrets/$1")
}

sandbox_start() {
    local port_file=$PAYMENT_STAGE/sandbox.port deadline
    [ -s "$secrets/sandbox" ] || secret_write sandbox "sk_test_$RANDOM$RANDOM$RANDOM"
    rm -f "$port_file"
    setsid "$PAYMENT_SANDBOX" --bind 127.0.0.1 --port 0 --port-file "$port_file" \
        --pid-file "$PAYMENT_STAGE/sandbox.pid" --secret-key-file "$secrets/sandbox" \
        --book "$PAYMENT_STAGE/sandbox.book" "$@" \
        >> "$PAYMENT_STAGE/log/sandbox.log" 2>&1 &
    sandbox_process=$!
    deadline=$((SECONDS + 10))
    until [ -s "$port_file" ]; do
        if [ "$SECONDS" -ge "$deadline" ] || ! kill -0 "$sandbox_process" 2> /dev/null; then
            echo "the sandbox does not start:" >&2
            tail -n 20 "$PAYMENT_STAGE/log/sandbox.log" >&2
            return 1
        fi
        sleep 0.1
    done
    SANDBOX_URL=http://127.0.0.1:$(cat "$port_file")
    sandbox_get /_sandbox/healthz > /dev/null
}

sandbox_stop() {
    [ -z "${sandbox_process:-}" ] || kill "$sandbox_process" 2> /dev/null || true
    [ -z "${sandbox_process:-}" ] || wait "$sandbox_process" 2> /dev/null || true
    sandbox_process=
}

sandbox_get() {
    sandbox_http GET "$1"
}

sandbox_post() {
    sandbox_http POST "$1" "${2:-}"
}

# Perl's HTTP::Tiny, so that nothing but perl is needed.
sandbox_http() {
    perl -MHTTP::Tiny -e '
        my ($method, $url, $content) = @ARGV;
        my %form = (content => $content,
            headers => {"content-type" => "application/x-www-form-urlencoded"});
        my $r = HTTP::Tiny->new(timeout => 30)->request($method, $url,
            $method eq "POST" ? \%form : {});
        print $r->{content};
        die "$method $url: $r->{status} $r->{reason}\n" unless $r->{success};
    ' "$1" "$SANDBOX_URL$2" "${3:-}"
}
