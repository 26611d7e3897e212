# The sandbox PSP settles in another currency than it charges in.

use strict;
use warnings;

use FindBin;
use Test::More;

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

sub transaction { my ($id) = @_; return get("/v1/balance_transactions/$id")->{json} }

sub charge
{
    my ($currency, $amount) = @_;
    return pay({ amount => $amount, currency => $currency, 'metadata[payment_order]' => "order-$currency-$amount",
        'expand[]' => 'latest_charge.balance_transaction' })->{json}{latest_charge};
}

my @flags = ('--settlement-currency', 'eur=usd:1.0845', '--settlement-currency', 'jpy=usd:0.0065', '--settlement-currency', 'usd=kwd:0.3',
    '--fee', 'USD=30,290', '--book', path_of('book'));
start(@flags);

subtest 'charges' => sub {
    # In minor units of both.
    foreach my $case (
        [ eur => 2000, usd => 2169, 1.0845 ], [ eur => 5, usd => 5, 1.0845 ], [ eur => 1, usd => 1, 1.0845 ],
        [ jpy => 1000, usd => 650, 0.0065 ], [ jpy => 1, usd => 1, 0.0065 ], [ jpy => 100, usd => 65, 0.0065 ],
        [ usd => 1000, kwd => 3000, 0.3 ], [ usd => 1, kwd => 3, 0.3 ], [ chf => 700, chf => 700, undef ])
    {
        my ($currency, $amount, $settled_in, $settled, $rate) = @$case;
        my $charge = charge($currency, $amount);
        my $tx = $charge->{balance_transaction};
        my %fee = (usd => 30 + $settled * 0.029, kwd => 100 + $settled * 0.029, chf => $settled * 0.029);
        is_deeply([ @$charge{qw(currency amount)}, @$tx{qw(currency amount exchange_rate)} ],
            [ $currency, $amount, $settled_in, $settled, $rate ], "$amount $currency");
        cmp_ok(abs($tx->{fee} - $fee{$settled_in}), '<=', 0.5, 'the fee is in the settlement currency');
        is($tx->{net}, $tx->{amount} - $tx->{fee}, 'and so is the net');
    }
};

subtest 'half-even' => sub {
    # 10 yen are 6.5 cents, 30 are 19.5.
    is(charge('jpy', 10)->{balance_transaction}{amount}, 6, '6.5 is 6');
    is(charge('jpy', 30)->{balance_transaction}{amount}, 20, '19.5 is 20');
    my $down = post('/v1/refunds', [ charge => charge('jpy', 50)->{id}, amount => 10 ])->{json};
    is(transaction($down->{balance_transaction})->{amount}, -6, '-6.5 is -6');
};

subtest 'refunds and disputes' => sub {
    my $charge = charge('eur', 2000);
    my $refund = post('/v1/refunds', [ charge => $charge->{id}, amount => 500, 'metadata[sandbox]' => 'stuck' ])->{json};
    is_deeply([ @$refund{qw(amount currency)} ], [ 500, 'eur' ], "a refund is in the charge's currency");
    my $tx = transaction($refund->{balance_transaction});
    is_deeply([ @$tx{qw(amount currency exchange_rate fee)} ], [ -542, 'usd', 1.0845, 0 ], 'its transaction is not');
    post('/_sandbox/refunds', [ refund => $refund->{id}, status => 'failed' ]);
    $tx = transaction(get("/v1/refunds/$refund->{id}")->{json}{failure_balance_transaction});
    is_deeply([ @$tx{qw(amount currency exchange_rate)} ], [ 542, 'usd', 1.0845 ], 'what was taken comes back');
    my $dispute = post('/_sandbox/disputes', [ charge => $charge->{id}, amount => 1000 ])->{json};
    is_deeply([ @$dispute{qw(amount currency)}, map { @$_{qw(amount currency fee)} } @{ $dispute->{balance_transactions} } ],
        [ 1000, 'eur', -1084, 'usd', 1500 ], 'so it is with a dispute');
};

subtest 'settled' => sub {
    post('/_sandbox/settle', []);
    my $charge = charge('eur', 2000);
    my $refund = post('/v1/refunds', [ charge => $charge->{id}, amount => 500 ])->{json};
    my $settlement = post('/_sandbox/settle', [])->{json};
    my $fee = $charge->{balance_transaction}{fee};
    is_deeply([ map { [ @$_{qw(currency amount)} ] } @{ $settlement->{payouts} } ], [ [ 'usd', 2169 - $fee - 542 ] ], 'one payout, in the settlement currency');
    my @rows = csv(get('/_sandbox/settlement.csv?settlement=latest')->{content});
    is_deeply(
        [ map { [ @$_{qw(reporting_category currency gross customer_facing_amount customer_facing_currency source_id)} ] } @rows ],
        [ [ 'charge', 'usd', '21.69', '20.00', 'eur', $charge->{id} ], [ 'refund', 'usd', '-5.42', '-5.00', 'eur', $refund->{id} ] ],
        'the file tells of both currencies');
    is($rows[0]{net}, sprintf('%.2f', (2169 - $fee) / 100), 'and the net');
    my ($payout) = @{ $settlement->{payouts} };
    is(scalar @{ get("/v1/balance_transactions?payout=$payout->{id}")->{json}{data} }, 3, 'the transactions of the payout');
};

subtest 'the books' => sub {
    my $book = book();
    ok(!exists $book->{eur}{settled} || $book->{eur}{settled} == 0, 'nothing is settled in euros');
    cmp_ok($book->{eur}{gross}, '>', 0, 'though charged');
    cmp_ok($book->{usd}{settled_gross}, '>', 0, 'but in dollars');
    my $balance = get('/v1/balance')->{content};
    stop('KILL');
    start('--settlement-currency', 'eur=usd:2', '--book', path_of('book'));
    is(get('/v1/balance')->{content}, $balance, 'which a restart at another rate does not change');
    is(charge('eur', 100)->{balance_transaction}{amount}, 200, 'the new rate is for what is new');
    is(stop(), 0, 'stopped');
};

finish();
