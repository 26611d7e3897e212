# The documentation is true: the examples of docs/integration.md run, and the
# pages name what there is, all of it where they are to be complete, and
# nothing else.
use strict;
use warnings;
use utf8;

use Cwd ();
use File::Basename ();
use File::Temp ();
use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

use constant SANDBOX_IN_DOCS => 'http://127.0.0.1:12111';

# who has a privilege, in the order that the pages keep
my $grantees = q(string_agg('`' || a.grantee::regrole || '`', ', ' ORDER BY array_position(
    ARRAY['payment_app', 'payment_finance', 'payment_admin', 'payment_auditor', 'payment_worker', 'payment_gateway'],
    a.grantee::regrole::text)));

my $top = Cwd::realpath(File::Basename::dirname(Cwd::realpath(__FILE__)) . '/../..');
my @pages = map { "docs/$_.md" } qw(architecture reference operations integration);
plan(skip_all => 'the documentation is not here') if grep { !-f "$top/$_" } @pages, 'src/errcodes.h';
my %page = map { $_ => decoded(slurp_file("$top/$_")) } @pages, 'README.md';

my $t = PaymentTest->new('docs', extension => 0);
my $url = "http://127.0.0.1:" . $t->start_sandbox;
my $folder = File::Temp::tempdir(CLEANUP => 1);

run_examples($page{'docs/integration.md'});
check_programs($page{'docs/integration.md'});
# makes the view that is not made with the extension
$t->sql('SELECT payment.create_partitions()');
check_functions($page{'docs/reference.md'});
check_views($page{'docs/reference.md'});
check_types($page{'docs/reference.md'});
check_tables($page{'docs/reference.md'});
check_settings($page{'docs/reference.md'});
check_psp_settings($page{'docs/reference.md'});
check_errors($page{'docs/reference.md'});
check_words($page{'docs/reference.md'});
check_pictures($page{'docs/architecture.md'});
check_monitoring($page{'docs/operations.md'});
check_names();
check_links();

$t->finish;

sub decoded
{
    my ($bytes) = @_;
    utf8::decode($bytes);
    return $bytes;
}

# ---- docs/integration.md ----

# Its marks are explained there, in a comment.
sub run_examples
{
    my ($text) = @_;
    my $count = 0;
    while ($text =~ /^<!-- run as (\w+)(?:, (.*?))? -->\n```(\w+)\n(.*?)^```$/msg)
    {
        my ($role, $rule, $language, $block) = ($1, $2 // '', $3, $4);
        $block =~ s/\Q@{[SANDBOX_IN_DOCS]}\E/$url/g;
        my $name = "example " . ++$count . ' ' . summary($block);
        fetch_settlement() if $block =~ /settlement\.csv/ && !-e "$folder/settlement.csv";
        if ($language eq 'sql')
        {
            run_sql($name, $role, $rule, $block);
        }
        else
        {
            run_program($name, $role, $language, $block);
        }
    }
    cmp_ok($count, '>', 25, 'docs/integration.md has examples that run');
    my $unmarked = () = $text =~ /(?<!-->\n)^```sql$/mg;
    is($unmarked, 0, 'and none in SQL that does not');
    $t->books_agree('after all examples book and ledger are equal');
}

sub summary
{
    my ($block) = @_;
    my $line = (grep { /\S/ && !/^(BEGIN|\\set)/ } split /\n/, $block)[0];
    return length $line > 60 ? substr($line, 0, 60) . '...' : $line;
}

sub psql_as
{
    my ($role, $block) = @_;
    my ($out, $err) = ('', '');
    my $old = Cwd::getcwd();
    chdir $folder or die "$folder: $!";
    my $status = $t->node->psql($t->database, "\\set VERBOSITY verbose\n$block",
        stdout => \$out, stderr => \$err,
        extra_params => $role eq 'superuser' ? [] : [ '-U', $role ]);
    chdir $old;
    return ($status, decoded($out), $err);
}

sub run_sql
{
    my ($name, $role, $rule, $block) = @_;
    my ($status, $out, $err) = psql_as($role, $block);
    if ($rule eq 'until true')
    {
        my $done = PaymentTest::wait_until(
            sub { ($status, $out, $err) = psql_as($role, $block); $status != 0 || $out eq 't' }, 60);
        ok($done && $status == 0, $name) or diag($out, $err, $t->log_tail);
    }
    elsif ($rule =~ /^fails with (\w{5})$/)
    {
        like($err, qr/ERROR:\s+$1:/, $name);
    }
    elsif ($rule =~ /^prints ?(.*)$/)
    {
        my $wanted = $1;
        is($err . join(';', split /\n/, $out), $wanted, $name);
    }
    elsif ($rule ne '')
    {
        fail("$name: unknown mark \"$rule\"");
    }
    else
    {
        is($status, 0, $name) or diag($err);
    }
}

# In another language: if its interpreter and driver are here.
sub run_program
{
    my ($name, $role, $language, $block) = @_;
    my %interpreter = (
        python => [ 'python3', '-c', 'import psycopg' ],
        js     => [ 'node', '-e', 'require("pg")' ]);
    my ($program, @probe) = @{ $interpreter{$language} };
  SKIP:
    {
        skip "$name: $language or its driver is not here", 1
          if system("'$program' $probe[0] '$probe[1]' > /dev/null 2>&1") != 0;
        local @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)} =
          ($t->node->host, $t->node->port, $role, $t->database);
        open my $file, '>:utf8', "$folder/example" or die $!;
        print $file $block;
        close $file;
        my $out = qx('$program' '$folder/example' 2>&1);
        my ($id) = $out =~ /^([0-9a-f-]{36})$/m;
        ok($id && $t->wait_for("SELECT status = 'succeeded' FROM payment.payment WHERE id = '$id'"), $name)
          or diag($out);
    }
}

# Programs in other languages, run here or not: does their compiler take them?
sub check_programs
{
    my ($text) = @_;
    my %checker = (
        python => [ 'python3', '-c', 'import ast, sys; ast.parse(open(sys.argv[1]).read())' ],
        js     => [ 'node', '--check' ],
        go     => [ 'gofmt', '-e', '-l' ]);
    my %count;
    while ($text =~ /^```(python|js|go)\n(.*?)^```$/msg)
    {
        my ($language, $block) = ($1, $2);
        my $name = "$language program " . ++$count{$language};
      SKIP:
        {
            skip "$name: $checker{$language}[0] is not here", 1 if system("command -v $checker{$language}[0] > /dev/null") != 0;
            my $path = "$folder/checked." . ($language eq 'python' ? 'py' : $language);
            open my $file, '>:utf8', $path or die $!;
            print {$file} $block;
            close $file;
            my $command = join ' ', (map { "'$_'" } @{ $checker{$language} }), "'$path'";
            my $out = qx($command 2>&1);
            is($?, 0, $name) or diag($out);
        }
    }
    is_deeply(\%count, { python => 2, js => 2, go => 2 }, 'a client and an endpoint for webhooks in each language');
    return;
}

sub fetch_settlement
{
    $t->settle;
    open my $file, '>', "$folder/settlement.csv" or die $!;
    print $file $t->settlement_csv('latest');
    close $file;
}

# ---- docs/reference.md: what it has to name, and how ----

sub section
{
    my ($text, $title) = @_;
    my ($section) = $text =~ /^## \Q$title\E\n(.*?)(?=^## |\z)/ms;
    return $section // die "no section \"$title\"\n";
}

# rows of a section's tables, as lists of cells
sub table_rows
{
    my ($text) = @_;
    return map { [ map { s/^\s+|\s+$//gr } split /(?<!\\)\|/, $_ ] } $text =~ /^\| (`.*?) \|$/mg;
}

sub unquoted { return $_[0] =~ s/`//gr }

# rows of a query, cells separated by what no cell holds
sub query_rows
{
    my ($query) = @_;
    return map { [ split /\x1f/, $_, -1 ] } split /\x1e/,
      decoded($t->sql("SELECT string_agg(q, E'\\x1e') FROM ($query) AS rows (q)"));
}

sub plain_type
{
    my ($text) = @_;
    $text =~ s/::[a-z]+( with time zone)?(\[\])?//g;
    $text =~ s/timestamp with time zone/timestamptz/g;
    $text =~ s/"//g;
    return $text =~ s/\s+/ /gr;
}

sub check_functions
{
    my ($text) = @_;
    my (%is, %documented);
    foreach my $row (query_rows(qq(
        SELECT concat_ws(E'\\x1f', p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid),
            (SELECT string_agg(format('%s %s', p.proargnames[i], format_type(p.proallargtypes[i], NULL)), ', ' ORDER BY i)
             FROM generate_subscripts(p.proargmodes, 1) AS i WHERE p.proargmodes[i] IN ('o', 't')),
            (SELECT $grantees FROM aclexplode(p.proacl) AS a WHERE a.grantee <> p.proowner))
        FROM pg_proc AS p WHERE p.pronamespace = 'payment'::regnamespace)))
    {
        my ($name, $arguments, $result, @rest) = @$row;
        my $columns = @rest && $rest[0] !~ /^`/ ? shift @rest : undef;
        $arguments = join ', ', grep { !/^OUT / } split /, (?=[\w"]+ )/, $arguments;
        $result = "SETOF ($columns)" if defined $columns;
        $is{$name} = plain_type("payment.$name($arguments) → $result")
          . ' / ' . ($rest[0] // 'nobody; triggers call it');
    }
    while ($text =~ /^### payment\.(\w+)\n\n```\n(.*?)\n```\n\nMay call: (.*?)\.$/msg)
    {
        my ($name, $signature, $callers) = ($1, $2, $3);
        $documented{$name} = ($signature =~ s/\s+/ /gr) . " / $callers";
    }
    is_deeply(\%documented, \%is, 'reference.md has every function as it is, and who may call it');
}

sub check_views
{
    my ($text) = @_;
    my (%is, %documented);
    foreach my $row (query_rows(qq(
        SELECT concat_ws(E'\\x1f', c.relname,
            (SELECT string_agg(attname || ' ' || format_type(atttypid, -1), ', ' ORDER BY attnum)
             FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0),
            (SELECT $grantees FROM aclexplode(c.relacl) AS a WHERE a.grantee <> c.relowner))
        FROM pg_class AS c WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind = 'v')))
    {
        my ($name, $columns, $readers) = @$row;
        $is{$name} = [ split(/, /, plain_type($columns)), $readers ];
    }
    while ($text =~ /^### payment\.(\w+)\n\nMay read: (.*?)\.$(.*?)(?=^##)/msg)
    {
        my ($name, $readers, $body) = ($1, $2, $3);
        $documented{$name} = [ (map { unquoted($_->[0]) . " $_->[1]" } table_rows($body)), $readers ];
    }
    is_deeply(\%documented, \%is, 'reference.md has every view with its columns, and who may read it');
}

sub check_types
{
    my ($text) = @_;
    my (%is, %documented);
    foreach my $row (query_rows(q(
        SELECT concat_ws(E'\x1f', c.relname, string_agg(attname || ' ' || format_type(atttypid, -1), ', ' ORDER BY attnum))
        FROM pg_class AS c JOIN pg_attribute ON attrelid = c.oid AND attnum > 0
        WHERE c.relnamespace = 'payment'::regnamespace AND c.relkind = 'c' GROUP BY c.relname)))
    {
        $is{ $row->[0] } = [ split /, /, plain_type($row->[1]) ];
    }
    while ($text =~ /^### Type payment\.(\w+)\n.*?^\| Field .*?\n(.*?)(?=^##)/msg)
    {
        my ($name, $body) = ($1, $2);
        $documented{$name} = [ map { unquoted($_->[0]) . " $_->[1]" } table_rows($body) ];
    }
    is_deeply(\%documented, \%is, 'reference.md has every type with its fields');
}

sub check_tables
{
    my ($text) = @_;
    my @is = split /\n/, $t->sql(q(
        SELECT relname FROM pg_class WHERE relnamespace = 'payment'::regnamespace AND relkind IN ('r', 'p')
        AND NOT relispartition ORDER BY 1));
    my @documented = sort map { $_->[0] =~ /payment\.(\w+)/g } table_rows(section($text, 'Tables'));
    is_deeply(\@documented, \@is, 'reference.md has every table');
}

sub check_settings
{
    my ($text) = @_;
    my (%is, %documented);
    foreach my $row (query_rows(q(
        SELECT concat_ws(E'\x1f', name, CASE boot_val WHEN '' THEN '(empty)' ELSE boot_val END,
            CASE vartype WHEN 'bool' THEN 'on, off' WHEN 'integer' THEN min_val || ' to ' || max_val ELSE '' END,
            CASE unit WHEN 'B' THEN 'bytes' ELSE coalesce(unit, '') END, context)
        FROM pg_settings WHERE name LIKE 'payment.%')))
    {
        my ($name, @rest) = @$row;
        $is{$name} = \@rest;
    }
    foreach my $row (table_rows(section($text, 'Settings of the server')))
    {
        $documented{ unquoted($row->[0]) } = [ @$row[ 1 .. 4 ] ];
    }
    is_deeply(\%documented, \%is, 'reference.md has every setting with default, range, unit and context');
}

sub check_psp_settings
{
    my ($text) = @_;
    my (%is, %documented);
    foreach my $row (query_rows(q(
        SELECT concat_ws(E'\x1f', attname, pg_get_expr(adbin, adrelid), coalesce(pg_get_constraintdef(k.oid), ''))
        FROM pg_attribute AS a JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            LEFT JOIN pg_constraint AS k ON k.conrelid = attrelid AND k.contype = 'c' AND k.conkey = ARRAY[attnum]
        WHERE attrelid = 'payment.psp'::regclass)))
    {
        my ($name, $default, $check) = @$row;
        my $range = $check =~ />= (\d+)\).*<= (\d+)\)/ ? "$1 to $2" : '';
        $is{$name} = [ plain_type($default) =~ s/'//gr, $range ];
    }
    foreach my $row (table_rows(section($text, 'Settings of a PSP')))
    {
        $documented{ unquoted($row->[0]) } = [ $row->[1], $row->[2] =~ /^(\d+ to \d+)$/ ? $1 : '' ];
    }
    is_deeply(\%documented, \%is, 'reference.md has every setting of a PSP with default and range');
}

sub check_errors
{
    my ($text) = @_;
    my (%is, %documented);
    my $header = slurp_file("$top/src/errcodes.h");
    while ($header =~ /define ERRCODE_PAYMENT_(\w+) PAYMENT_SQLSTATE\('(.)', '(.)', '(.)'\)/g)
    {
        $is{"PY$2$3$4"} = lc $1;
    }
    foreach my $row (grep { $_->[0] =~ /PY/ } table_rows(section($text, 'Errors')))
    {
        $documented{ unquoted($row->[0]) } = $row->[1];
        ok(length $row->[3], "reference.md says what to do at $row->[0]");
    }
    is_deeply(\%documented, \%is, 'reference.md has every SQLSTATE and its name');
    foreach my $page (sort keys %page)
    {
        my @unknown = grep { !$is{$_} } $page{$page} =~ /\b(PY\d\d\d)\b/g;
        is("@unknown", '', "$page names no other SQLSTATE");
    }
}

# words that tables hold
sub check_words
{
    my ($text) = @_;
    my %kind = map { unquoted($_->[0]) => 1 } table_rows(section($text, 'Journal kinds'));
    my @missing = grep { !$kind{$_} } split /\n/, $t->sql('SELECT DISTINCT kind FROM payment.journal');
    is("@missing", '', 'reference.md has the kinds of the journals that the examples posted');

    my $check = $t->sql(q(SELECT pg_get_constraintdef(oid) FROM pg_constraint
        WHERE conname = 'exception_record_type_check'));
    my @is = sort $check =~ /'(\w+)'::text/g;
    my @documented = sort map { $_->[0] =~ /`(\w+)`/g } table_rows(section($text, 'Exception types'));
    is_deeply(\@documented, \@is, 'reference.md has every type of exception');
}

# ---- docs/architecture.md ----

# What is drawn is legal, and what happened is drawn.
sub check_pictures
{
    my ($text) = @_;
    my %legal = map { $_ => 1 } split /\n/, $t->sql(
        q(SELECT format('%s: %s --> %s', object, coalesce(from_status, '[*]'), to_status) FROM payment.transitions()));
    my %drawn;
    while ($text =~ /^\*\*([A-Z][\w ]*)\*\*\n\n```mermaid\nstateDiagram-v2\n(.*?)^```/msg)
    {
        my ($object, $lines) = (lc $1, $2);
        $object =~ s/ /_/g;
        foreach my $line (split /\n/, $lines)
        {
            $object = $1 if $line =~ /state "[\w ]+" as (\w+) \{/;
            my $name = { file => 'settlement_file', exc => 'exception' }->{$object} // $object;
            $drawn{"$name: $1 --> $2"} = 1 if $line =~ /^\s*(\S+) --> (\w+)/;
        }
    }
    cmp_ok(scalar keys %drawn, '>', 40, 'state machines are drawn');
    is_deeply([ grep { !$legal{$_} } sort keys %drawn ], [], 'as payment.transitions() has them');
    my @happened = split /\n/, $t->sql(
        q(SELECT DISTINCT format('%s: %s --> %s', object, coalesce(from_status, '[*]'), to_status)
          FROM payment.status_history));
    is_deeply([ grep { !$drawn{$_} } sort @happened ], [], 'and with everything that the examples went through');
}

# ---- docs/operations.md ----

# What is to be watched can be, by the role that is named for it.
sub check_monitoring
{
    my ($text) = @_;
    my @queries = section($text, 'What to watch') =~ /`(SELECT .*?)`/g;
    cmp_ok(scalar @queries, '>', 7, 'docs/operations.md says how to watch');
    $t->sql('CREATE ROLE monitor LOGIN IN ROLE payment_auditor');
    foreach my $query (grep { !/retry_dead_letter|reset_breaker/ } @queries)
    {
        my ($status, undef, $err) = psql_as('monitor', "$query;");
        is("$status $err", '0 ', "payment_auditor may: $query");
    }
}

# ---- all pages ----

# payment.something is something that there is.
sub check_names
{
    my %is = map { $_ => 1 } qw(control c), split /\n/, $t->sql(q(
        SELECT proname FROM pg_proc WHERE pronamespace = 'payment'::regnamespace
        UNION SELECT relname FROM pg_class WHERE relnamespace = 'payment'::regnamespace
        UNION SELECT substr(name, 9) FROM pg_settings WHERE name LIKE 'payment.%'
        UNION SELECT format('%s.%s', c.relname, attname) FROM pg_class AS c
            JOIN pg_attribute ON attrelid = c.oid WHERE relnamespace = 'payment'::regnamespace));
    foreach my $name (sort keys %page)
    {
        my $text = $page{$name};
        # partitions are those of the day
        my @unknown = grep { !$is{ s/_p\d{6}$/_default/r } } $text =~ /\bpayment\.([a-z]\w*)/g;
        push @unknown, grep { !$is{$_} && $is{ (split /\./)[0] } } $text =~ /`payment\.(\w+\.\w+)`/g;
        is(join(' ', @unknown), '', "$name names nothing that is not there");
    }
}

sub slug
{
    my ($title) = @_;
    return lc($title =~ s/`//gr) =~ s/[^\w\- ]//gr =~ s/ /-/gr;
}

sub check_links
{
    my %anchor;
    foreach my $name (keys %page)
    {
        $anchor{$name}{ slug($_) } = 1 foreach $page{$name} =~ /^#+ (.*)$/mg;
    }
    foreach my $name (sort keys %page)
    {
        my @broken;
        my $folder = $name =~ m{^docs/} ? 'docs/' : '';
        foreach my $link ($page{$name} =~ /\]\(([^)\s]+)\)/g)
        {
            next if $link =~ /^https?:/;
            my ($path, $anchor) = split /#/, $link, 2;
            my $target = $path eq '' ? $name : "$folder$path";
            $target =~ s{^docs/\.\./}{};
            push @broken, $link
              if !-e "$top/$target" || defined $anchor && $page{$target} && !$anchor{$target}{$anchor};
        }
        is("@broken", '', "the links of $name lead somewhere");
    }
}
