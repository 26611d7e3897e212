# The sandbox PSP's settlement files, true ones and falsified ones.

use strict;
use warnings;

use FindBin;
use Test::More;
use Time::HiRes qw(sleep time);

use lib "$FindBin::RealBin/../lib";
use SandboxTest;

# Major units to minor ones, as text.
sub minor
{
    my ($text, $currency) = @_;
    my %exponent = (jpy => 0, krw => 0, kwd => 3, bhd => 3);
    my $exponent = $exponent{$currency} // 2;
    my $pattern = $exponent ? qr/^-?\d+\.\d{$exponent}$/ : qr/^-?\d+$/;
    return "not with $exponent decimals: $text" if $text !~ $pattern;
    $text =~ s/\.//;
    return $text + 0;
}

# Totals by currency of a file's rows, gross - fee = net checked on the way.
sub totals
{
    my (@rows) = @_;
    my %total;
    foreach my $row (@rows)
    {
        my $currency = $row->{currency};
        my ($gross, $fee, $net) = map { minor($row->{$_}, $currency) } qw(gross fee net);
        is($net, $gross - $fee, "net of $row->{balance_transaction_id}") if $net ne $gross - $fee;
        $total{$currency}{gross} += $gross;
        $total{$currency}{fee} += $fee;
        $total{$currency}{count}++;
    }
    return \%total;
}

subtest 'settlement' => sub {
    start('--payout-delay-ms', 0);
    my @amounts = (
        [ usd => 1000, 59 ], [ usd => 1, 30 ], [ usd => 999999999999, 30 + 29000000000 ],
        [ eur => 100, 25 + 2 ], [ eur => 300, 25 + 4 ], [ eur => 99, 25 + 1 ], [ eur => 101, 25 + 2 ],
        [ jpy => 1000000, 30 + 36000 ], [ jpy => 125, 30 + 4 ], [ jpy => 375, 30 + 14 ],
        [ kwd => 1234, 100 + 36 ], [ kwd => 500, 100 + 14 ], [ chf => 1000, 29 ]);
    my $description = "said \"hello\", then\nleft";
    my $n = 0;
    my %expected;
    foreach my $case (@amounts)
    {
        my ($currency, $amount, $fee) = @$case;
        my $intent = pay({
            amount                    => $amount,
            currency                  => $currency,
            description               => $description,
            'metadata[payment_order]' => 'order-' . ++$n,
            'metadata[payment]'       => 'payment,' . $n,
            'expand[]'                => 'latest_charge.balance_transaction' })->{json};
        is($intent->{latest_charge}{balance_transaction}{fee}, $fee, "fee of $amount $currency, half-even");
        $expected{$currency}{gross} += $amount;
        $expected{$currency}{fee} += $fee;
        $expected{$currency}{count}++;
    }
    pay({ payment_method => 'pm_card_chargeDeclined' });
    pay({ capture_method => 'manual' });
    my $seller = payout({ amount => 42, currency => 'eur' })->{json}{id};
    get('/_sandbox/book');

    my $settlement = post('/_sandbox/settle', [])->{json};
    is($settlement->{charges}, scalar @amounts, 'what succeeded is settled');
    is_deeply($settlement->{planted}, [], 'nothing planted');
    is_deeply([ map { $_->{currency} } @{ $settlement->{payouts} } ], [qw(chf eur jpy kwd usd)],
        'one payout for each currency');
    foreach my $payout (@{ $settlement->{payouts} })
    {
        my $e = $expected{ $payout->{currency} };
        is($payout->{amount}, $e->{gross} - $e->{fee}, "paid out in $payout->{currency}");
        my $object = get(PAYOUTS . "/$payout->{id}")->{json};
        ok($object->{automatic} && $object->{status} eq 'paid', 'automatic and paid');
    }
    my $path = "/_sandbox/settlement.csv?settlement=$settlement->{id}";
    my $file = get($path)->{content};
    my @rows = csv($file);
    is((split /\n/, $file)[0],
        'automatic_payout_id,automatic_payout_effective_at_utc,balance_transaction_id,created_utc,'
          . 'available_on_utc,currency,gross,fee,net,reporting_category,source_id,description,'
          . 'customer_facing_amount,customer_facing_currency,charge_id,payment_intent_id,'
          . 'payment_metadata[payment_order],payment_metadata[payment],trace_id',
        'the header');
    is_deeply(totals(@rows), \%expected, 'the file adds up to what was charged');
    is($rows[0]{description}, $description, 'a quoted description');
    is($rows[0]{'payment_metadata[payment_order]'}, 'order-1', 'payment_order');
    is($rows[0]{'payment_metadata[payment]'}, 'payment,1', 'payment');
    is($rows[0]{reporting_category}, 'charge', 'reporting_category');
    like($rows[0]{$_}, qr/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/, $_)
      foreach qw(created_utc available_on_utc automatic_payout_effective_at_utc);
    is_deeply([ map { $_->{gross} } grep { $_->{currency} eq 'jpy' } @rows ], [ 1000000, 125, 375 ], 'JPY');
    is_deeply([ map { $_->{gross} } grep { $_->{currency} eq 'kwd' } @rows ], [qw(1.234 0.500)], 'KWD');
    is_deeply([ map { $_->{net} } @rows[ 0, 1 ] ], [qw(9.41 -0.29)], 'USD, also negative');

    my $crlf = get("$path&crlf=1&bom=1")->{content};
    ok($crlf =~ s/^\xEF\xBB\xBF//, 'a BOM');
    my @crlf_rows = csv($crlf);
    is(scalar(() = $crlf =~ /\r\n/g), @rows + 1, 'CRLF');
    is_deeply(\@crlf_rows, \@rows, 'with the same content');
    my @with_payouts = csv(get("$path&payouts=1")->{content});
    is(scalar @with_payouts, @rows + 1, 'payouts=1');
    is_deeply([ @{ $with_payouts[-1] }{qw(reporting_category source_id gross net)} ],
        [ 'payout', $seller, '-0.42', '-0.42' ], 'lists what the API paid out');

    my $usd = book()->{usd};
    is_deeply([ @$usd{qw(settled settled_gross settled_fee)} ], [ @{ $expected{usd} }{qw(count gross fee)} ],
        'the book knows');
    my $eur_payout = (grep { $_->{currency} eq 'eur' } @{ $settlement->{payouts} })[0]{id};
    is(scalar @{ get("/v1/balance_transactions?payout=$eur_payout&type=charge")->{json}{data} },
        4, 'balance transactions of a payout');
    is(post('/_sandbox/settle', [])->{json}{charges}, 0, 'nothing is settled twice');
    is(get('/_sandbox/settlement.csv?settlement=set_x')->{status}, 404, 'an unknown settlement');
    is(get('/_sandbox/settlement.csv')->{status}, 400, 'no settlement named');
    is(get($path . '&what=1')->{status}, 400, 'an unknown parameter');
    is(get($path)->{content}, $file, 'the file does not change');
};

subtest 'planted differences' => sub {
    my @kinds = qw(amount missing unknown duplicate fee currency);
    my %intent;
    foreach my $n (1 .. 40)
    {
        my $currency = (qw(usd eur jpy kwd))[ $n % 4 ];
        my $made = pay({ amount => 1000 + $n, currency => $currency, 'metadata[payment_order]' => "plant-$n" });
        $intent{ $made->{json}{id} } = "plant-$n";
    }
    is(post('/_sandbox/settle', [ plant => 'amount:41' ])->{status}, 400, 'more than there is');
    is(post('/_sandbox/settle', [ plant => $_ ])->{status}, 400, "refused: $_")
      foreach 'amount:x', 'nothing:1', 'amount:', 'amount:-1', ':', 'amount:1,,fee:1';
    my $before = book();
    my $settlement =
      post('/_sandbox/settle', [ plant => 'amount:1,missing:1', map { (plant => "$_:1") } @kinds[ 2 .. 5 ] ])
      ->{json};
    is($settlement->{charges}, 40, 'forty charges');
    my %planted = map { $_->{kind} => $_ } @{ $settlement->{planted} };
    is_deeply([ sort keys %planted ], [ sort @kinds ], 'each kind is named');
    my %distinct = map { $_->{payment_intent} => 1 } @{ $settlement->{planted} };
    is(scalar keys %distinct, 6, 'on payments of their own');

    my @rows = csv(get("/_sandbox/settlement.csv?settlement=$settlement->{id}")->{content});
    is(scalar @rows, $settlement->{lines}, 'as many lines as announced');
    is(scalar @rows, 41, 'forty, less one, and two more');
    my %lines;
    push @{ $lines{ $_->{payment_intent_id} } }, $_ foreach @rows;
    totals(@rows);
    my %gross = map { $_->{payment_intent_id} => $_ } csv(get('/_sandbox/charges.csv')->{content});
    my $is = sub {
        my ($kind, $row, $side) = @_;
        my $stated = $planted{$kind}{ $side // 'stated' };
        is_deeply(
            [
                $row->{balance_transaction_id}, $row->{currency},
                map { minor($row->{$_}, $row->{currency}) } qw(gross fee net) ],
            [ @$stated{qw(balance_transaction currency gross fee net)} ],
            "$kind: the line is as announced");
    };
    foreach my $kind (grep { $_ ne 'unknown' } @kinds)
    {
        my $plant = $planted{$kind};
        is($plant->{payment_order}, $intent{ $plant->{payment_intent} }, "$kind: payment_order");
        my $book = $gross{ $plant->{payment_intent} };
        is_deeply([ @{ $plant->{truth} }{qw(gross currency)} ], [ @$book{qw(amount currency)} ],
            "$kind: the truth is the book's");
    }
    my $lines_of = sub { return @{ $lines{ $planted{ $_[0] }{payment_intent} } // [] } };
    is(scalar $lines_of->($_), 1, "$_: one line") foreach qw(amount unknown fee currency);
    $is->($_, $lines_of->($_)) foreach qw(amount unknown fee currency);
    my ($amount, $fee) = @planted{qw(amount fee)};
    is($amount->{stated}{gross} - $amount->{truth}{gross}, 1, 'amount: one minor unit');
    is($fee->{stated}{fee} - $fee->{truth}{fee}, 25, 'fee: 25 minor units');
    isnt($planted{currency}{stated}{currency}, $planted{currency}{truth}{currency}, 'currency: another');
    is(scalar $lines_of->('missing'), 0, 'missing: no line');
    is($planted{missing}{stated}, undef, 'missing: nothing stated');
    my @double = $lines_of->('duplicate');
    is(scalar @double, 2, 'duplicate: two lines');
    $is->('duplicate', $double[0], 'truth');
    $is->('duplicate', $double[1]);
    isnt($double[0]{balance_transaction_id}, $double[1]{balance_transaction_id}, 'with ids of their own');
    is(get(INTENTS . "/$planted{unknown}{payment_intent}")->{status}, 404, 'unknown: nobody knows it');
    is($planted{unknown}{payment_order}, undef, 'unknown: no payment_order');
    my $off = 0;
    foreach my $row (@rows)
    {
        next if $distinct{ $row->{payment_intent_id} };
        my $book = $gross{ $row->{payment_intent_id} };
        $off++ if $book->{currency} ne $row->{currency} || $book->{amount} != minor($row->{gross}, $row->{currency});
    }
    is($off, 0, 'all other lines are true');
    my $after = book();
    is($after->{$_}{gross}, $before->{$_}{gross}, "the book keeps the truth in $_") foreach qw(usd eur jpy kwd);
    is(post('/_sandbox/settle', [])->{json}{charges}, 0, 'what is missing stays missing');
    is(get('/_sandbox/settlement.csv?settlement=latest')->{status}, 200, 'the latest settlement');
    is(stop(), 0, 'stopped');
};

subtest 'fees by flag' => sub {
    start('--fee', 'USD=0,10', '--fee', 'chf=7,0');
    my %expand = ('expand[]' => 'latest_charge.balance_transaction');
    my $fee = sub { pay({ %expand, @_ })->{json}{latest_charge}{balance_transaction}{fee} };
    is($fee->(amount => 500), 0, 'half rounds to the even 0');
    is($fee->(amount => 1500), 2, 'half rounds to the even 2');
    is($fee->(amount => 501), 1, 'above half');
    is($fee->(currency => 'chf'), 7, 'fixed only');
    is(stop(), 0, 'stopped');
};

finish();
