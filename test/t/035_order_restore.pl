# S71: payments, payouts, their history and their queue dumped and restored; the
# restore adds no history, and S65: everything is guarded again.
use strict;
use warnings;

use PaymentTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $t = PaymentTest->new('orders');
my $dir = PostgreSQL::Test::Utils::tempdir();

# no worker has this adapter: what is sent is told below
$t->call('register_psp', name => 'told', adapter => 'none', base_url => 'http://127.0.0.1:1', secret_name => 'none');
$t->sql(q{SELECT payment.register_seller('seller ' || n, 'Seller') FROM generate_series(1, 3) AS n});
$t->sql(q{SELECT payment.set_fee_schedule(0, 250)});

sub buy
{
    my ($name, $count) = @_;
    return $t->sql(qq{
        SELECT count(*) FROM payment.submit((SELECT jsonb_agg(jsonb_build_object('idempotency_key', '$name ' || n,
            'payment_type', 'pay_in', 'payer', E'payer\\n"' || n, 'payment_method', 'pm', 'metadata', '{"a": [1, null]}'::jsonb,
            'orders', jsonb_build_array(
                jsonb_build_object('seller', 'seller 1', 'amount', 100 + n, 'currency', 'EUR', 'reference', 'r\\' || n),
                jsonb_build_object('seller', 'seller 2', 'amount', 200 + n, 'currency', 'JPY'))))
            FROM generate_series(1, $count) AS n))});
}

sub outcome
{
    my ($outcome, $count) = @_;
    return $t->sql(qq{
        SELECT payment.record_outcomes(array_agg(ROW(c.attempt_id, '$outcome', 200, 5, 'ref ' || c.object_id, c.amount,
            c.currency, 'code', E'a\\tb', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome))
        FROM payment.claim_tasks((SELECT id FROM payment.psp), $count, 60000) AS c});
}

buy('first', 30);
outcome('succeeded', 40);
outcome('declined', 10);
outcome('unknown', 5);
$t->sql(q{SELECT payment.release(id) FROM payment.payment_order WHERE status = 'captured' AND seller = 'seller 1'});
$t->sql(q{SELECT payment.payout(payment.seller_id('seller 1'), 500, 'EUR', 'bank', 'payout 1')});

# partitions made at run time are no members of the extension
$t->sql(q{
    SELECT payment.new_id() AS from_id \gset
    CREATE TABLE payment.order_record_later PARTITION OF payment.order_record (PRIMARY KEY (id))
        FOR VALUES FROM (:'from_id') TO ('ffffffff-ffff-7000-8000-000000000000');
    CREATE TRIGGER guard_rows BEFORE INSERT OR DELETE OR TRUNCATE ON payment.order_record_later
        FOR EACH STATEMENT EXECUTE FUNCTION payment.guard_rows();
    ALTER TABLE payment.order_record_later ENABLE ALWAYS TRIGGER guard_rows;
});
buy('later', 5);
outcome('succeeded', 3);
is($t->sql('SELECT count(*) > 0 FROM payment.order_record_later'), 't', 'there are orders in a run-time partition');

my @tables = qw(psp seller fee_schedule idempotency payment_record order_record payout_record psp_reference
    status_history task attempt);
my $contents = join ' UNION ALL ', map {
    "SELECT '$_', md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")), count(*) FROM payment.$_ AS t"
} @tables;
my $views = join ' UNION ALL ', map {
    "SELECT '$_', md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")), count(*) FROM payment.$_ AS t"
} qw(payment payment_order payout wallet);
my $before = $t->sql("$contents UNION ALL $views");

$t->node->command_ok([ 'pg_dump', '-f', "$dir/plain", $t->database ], 'pg_dump as SQL');
$t->node->command_ok([ 'pg_dump', '-Fd', '-j', 2, '-f', "$dir/directory", $t->database ], 'pg_dump as directory');

sub restored_ok
{
    my ($database, $how) = @_;
    my $sql = sub { return $t->sql($_[0], database => $database) };
    my $state = sub { return $t->sqlstate($_[0], database => $database) };

    is($sql->("$contents UNION ALL $views"), $before, "S71 $how: the contents are equal");
    is($sql->('SELECT * FROM payment.verify()'), '', "S71 $how: the ledger is true");
    foreach my $table (qw(payment_record payment_record_default order_record order_record_default order_record_later
        payout_record payout_record_default status_history status_history_default psp_reference idempotency attempt
        attempt_default))
    {
        is($state->("DELETE FROM payment.$table"), 'PY301', "S65 $how: $table refuses DELETE");
        is($state->("SET session_replication_role = replica; TRUNCATE payment.$table"), 'PY301',
            "S65 $how: $table refuses TRUNCATE of a replica");
        is($state->("INSERT INTO payment.$table SELECT * FROM payment.$table"), 'PY301', "S65 $how: $table refuses INSERT");
    }
    is($state->("UPDATE payment.$_ SET status = 'captured' WHERE status <> 'captured'"), 'PY300', "S65 $how: $_ refuses a status")
      foreach qw(order_record order_record_default order_record_later);
    is($state->('UPDATE payment.order_record_later SET amount = 1'), 'PY302', "S65 $how: an amount never changes");

    # the answers of old keys, and new work
    my $fresh = $sql->(q{SELECT object_id FROM payment.submit('{"idempotency_key": "fresh", "payment_type": "pay_in",
        "payer": "p", "payment_method": "pm", "orders": [{"seller": "seller 1", "amount": 5, "currency": "EUR"}]}')});
    is($sql->("SELECT string_agg(to_status, ' ') FROM payment.status_history WHERE object_id = '$fresh'"), 'created',
        "S71 $how: life goes on, with history");
    is($state->(q{SELECT payment.checkout('first 1', 'p', '[{"seller": "seller 1", "amount": 5, "currency": "EUR"}]',
        payment_method => 'pm')}), 'PY100', "S02 $how: old keys are known");
    return;
}

$t->node->safe_psql('postgres', 'CREATE DATABASE by_psql');
$t->node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'by_psql', '-f', "$dir/plain" ],
    'S71 psql: no error');
restored_ok('by_psql', 'psql');

$t->node->safe_psql('postgres', 'CREATE DATABASE by_pg_restore');
$t->node->command_ok([ 'pg_restore', '-j', 2, '--exit-on-error', '-d', 'by_pg_restore', "$dir/directory" ],
    'S71 pg_restore -j 2: no error');
restored_ok('by_pg_restore', 'pg_restore');

$t->finish;
