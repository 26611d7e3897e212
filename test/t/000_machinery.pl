# What the other tests stand on: server, sandbox, faults, book, kill -9, and
# that a difference between book and ledger is seen.
use strict;
use warnings;

use HTTP::Tiny;
use PaymentTest;
use Test::More;

my $t = PaymentTest->new('machinery');

is($t->sqlstate('SELECT 1 / 0'), '22012', 'an SQLSTATE is found');
is($t->sqlstate('SELECT 1'), '00000', 'no error has one, too');
ok(!eval { $t->wait_for('SELECT false', seconds => 0, what => 'pigs to fly'); 1 },
    'waiting has an end');
like($@, qr/pigs to fly.*log/s, 'that says what for');
my $hostile = q(a'b\c"d);
is($t->sql('SELECT ' . PaymentTest::literal($hostile) . '::text'), $hostile, 'literals are quoted');
is_deeply([ PaymentTest::parse_csv(qq(a,b\r\n1,"x, ""y""\nz"\r\n,\r\n)) ],
    [ { a => 1, b => qq(x, "y"\nz) }, { a => '', b => '' } ], 'CSV is read');

my $port = $t->start_sandbox('rate_limit=next:1');
is($t->book->{charges}, 0, 'a new book is empty');

sub charge
{
    my ($key, $order) = @_;
    my $secret = PaymentTest::slurp_file($t->secrets_dir . '/sandbox');
    my $http = HTTP::Tiny->new(
        timeout         => 30,
        default_headers => { authorization => "Bearer $secret", 'idempotency-key' => $key });
    return $http->post_form(
        $t->sandbox_url . '/v1/payment_intents',
        {   amount                    => 1234,
            currency                  => 'usd',
            confirm                   => 'true',
            payment_method            => 'pm_card_visa',
            'metadata[payment_order]' => $order,
        })->{status};
}

my $order = '01900000-0000-7000-8000-000000000001';
is(charge('key-1', $order), 429, 'a fault given at the start comes to pass');
is(charge('key-1', $order), 200, 'and only once');
is($t->book->{currencies}{usd}{gross}, 1234, 'the charge is in the book');
is(($t->charges)[0]{payment_order}, $order, 'under our reference');
is_deeply([ $t->book_differences ], ["order $order USD: charged 1234, posted 0"],
    'a charge that is in no journal is seen');

$t->faults(reset => '100');
is(charge('key-2', $order), 599, 'a fault switched on comes to pass');
$t->faults(reset => 0);

is($t->stop_sandbox('KILL'), $port, 'the sandbox is killed');
is($t->start_sandbox({ port => $port }), $port, 'and comes back where it was');
is($t->book->{charges}, 1, 'with its book');
is(charge('key-3', $order), 200, 'and charges again');
is_deeply(
    [ $t->book_differences ],
    [ "order $order was charged more than once", "order $order USD: charged 2468, posted 0" ],
    'a second charge for one order is seen');

$t->kill_postmaster;
$t->restart_postmaster;
$t->wait_for_server;
is($t->sql(q(SELECT count(*) FROM pg_extension WHERE extname = 'payment')), 1,
    'the server is back after kill -9');

$t->finish;
