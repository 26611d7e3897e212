=head1 NAME

CrashTruth - what three sides say of the same payments, and where they differ

=head1 SYNOPSIS

  my $truth = CrashTruth->new($t, journals => [ $file ... ], psps => { name => sandbox's name });
  $truth->see_requests;      # before each end of a sandbox: its log ends with it
  $truth->decide_unknown;    # as two people who may look into the sandbox's book
  $truth->tell;              # tests

The sides: what clients were told, what the database holds, what the sandbox
did.  Each test lists what is wrong, and so passes with an empty list.

=cut

package CrashTruth;

use strict;
use warnings;

use JSON::PP;
use List::Util ();
use PaymentTest;
use Test::More;

# statuses, by whether the money has moved
my %ends = (
    captured => 1, paid   => 1,
    declined => 0, failed => 0, voided => 0,
);

sub new
{
    my ($class, $t, %option) = @_;
    return bless { t => $t, sent => {}, counts => {}, %option }, $class;
}

# Rows as lists; no value of ours holds the delimiter.
sub _table
{
    my ($self, $sql) = @_;
    return map { [ split /\|/, $_, -1 ] } split /\n/, $self->{t}->sql($sql);
}

# One test: nothing of the kind.  Shows the first few.
sub _none
{
    my ($self, $name, @wrong) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $few = @wrong > 5 ? 5 : @wrong;
    my $good = is(scalar @wrong, 0, $name);
    diag(join "\n", (sort @wrong)[ 0 .. $few - 1 ]) if !$good;
    return $good;
}

sub _none_in
{
    my ($self, $name, $sql) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return $self->_none($name, split /\n/, $self->{t}->sql($sql));
}

# ---- the sandbox's side

=head2 see_requests

Counts the requests to execute that each key came with, since that sandbox
began: to be called once, at its end.

=cut

sub see_requests
{
    my ($self) = @_;
    foreach my $line (split /\n/, $self->{t}->sandbox('GET', '/_sandbox/requests.csv'))
    {
        # seq, time, method, path, idempotency_key, status, executed
        my (undef, undef, $method, $path, $key, $status, $executed) = split /,/, $line;
        next if ($method // '') ne 'POST' || ($key // '') eq '';

        $self->{executed}{$1}{$2} = 1 if $executed eq 'yes' && $key =~ /^([-0-9a-f]{36}):refund:(\d+)/;

        # with an access token that is over: sent once more with another one
        next if $status eq '401';
        $self->{sent}{ $key =~ s/:(?:capture|authorize)$//r }{$path}++;
    }
    return;
}

sub _read_book
{
    my ($self) = @_;
    my %book;
    foreach my $entry ($self->{t}->charges)
    {
        push @{ $book{ $entry->{payment_order} } }, $entry;
    }
    foreach my $entry ($self->{t}->payouts)
    {
        push @{ $book{ $entry->{payout} } }, { %$entry, payment_intent_id => $entry->{payout_id} };
    }
    $self->{book} = \%book;
    return;
}

# the entries that moved money, or may yet
sub _moved
{
    my ($self, $id) = @_;
    return grep { $_->{status} =~ /^(?:succeeded|paid|pending|in_transit|authorized)$/ } @{ $self->{book}{$id} // [] };
}

# ---- the database's side

sub _read_database
{
    my ($self) = @_;
    my %object;
    foreach my $row ($self->_table(<<'SQL'))
SELECT 'order', o.id, o.status, o.amount, o.currency, p.name, o.payment_id, o.captured_fee, o.seller_id,
    o.released_at IS NOT NULL, o.captured_amount
FROM payment.order_record AS o JOIN payment.psp AS p ON p.id = o.psp_id
UNION ALL
SELECT 'payout', o.id, o.status, o.amount, o.currency, p.name, NULL, NULL, o.seller_id, NULL, NULL
FROM payment.payout_record AS o JOIN payment.psp AS p ON p.id = o.psp_id
SQL
    {
        my %of;
        @of{qw(what id status amount currency psp payment fee seller released captured)} = @$row;
        $object{ $of{id} } = \%of;
    }
    $self->{object} = \%object;
    my %refund;
    foreach my $row ($self->_table('SELECT id, order_id, status, amount, fee_share FROM payment.refund_record'))
    {
        my %of;
        @of{qw(id order status amount fee)} = @$row;
        $refund{ $of{id} } = \%of;
    }
    $self->{refund} = \%refund;
    $self->{exceptions} = {};
    push @{ $self->{exceptions}{ $_->[0] } }, $_->[1]
      foreach $self->_table(q(SELECT order_id, type FROM payment.exception_record WHERE status = 'open'));
    return;
}

sub _has_exception
{
    my ($self, $id, $types) = @_;
    return grep { $_ =~ $types } @{ $self->{exceptions}{$id} // [] };
}

# What the PSP did otherwise than asked for: people see it, and it stays.
sub _is_conflict
{
    my ($self, $of) = @_;
    my @done = @{ $self->{book}{ $of->{id} } // [] };
    return 0 if $self->_moved($of->{id}) > 1 || !$self->_has_exception($of->{id}, qr/^(?:amount|currency|unknown_outcome)$/);
    return $of->{status} =~ /^(?:conflicted|unknown)$/
      && grep { "$_->{amount} \U$_->{currency}" ne "$of->{amount} $of->{currency}" } @done;
}

sub _is_refund_conflict
{
    my ($self, $of) = @_;
    return $of->{status} eq 'unknown' && $self->_has_exception($of->{id}, qr/^amount$/);
}

sub _refunds_of
{
    my ($self, $order) = @_;
    return grep { $_->{order} eq $order } values %{ $self->{refund} };
}

# ---- what people do

=head2 revive_dead_letters

Puts all back into the queue; returns how many there were.

=cut

sub revive_dead_letters
{
    my ($self) = @_;
    return $self->{t}->sql(q(SELECT count(*) FILTER (WHERE payment.retry_dead_letter(task_id)) FROM payment.dead_letter));
}

=head2 decide_unknown

What no lookup can tell any more is decided by two people, by what they see in
the sandbox's book.  Returns how often, by PSP and kind of object.

=cut

sub decide_unknown
{
    my ($self) = @_;
    $self->_read_book;
    $self->_read_database;
    my %decided;
    foreach my $of (grep { $_->{status} eq 'unknown' && $self->_has_exception($_->{id}, qr/^unknown_outcome$/) }
        values %{ $self->{object} })
    {
        next if $self->_is_conflict($of);
        my ($moved) = $self->_moved($of->{id});
        my %decision = (object => $of->{id}, outcome => $moved ? 'succeeded' : 'failed', reason => 'the book says so');
        $decision{psp_reference} = $moved->{payment_intent_id} if $moved;
        $self->{t}->call('resolve_unknown', %decision, person => $_) foreach qw(ann ben);
        $decided{"$of->{psp} $of->{what}"}++;
    }
    return \%decided;
}

# ---- the comparison

sub _read_journals
{
    my ($self) = @_;
    my $json = JSON::PP->new;
    my (%key, %nothing, @wrong);
    foreach my $line (map { split /\n/, PaymentTest::slurp_file($_) } @{ $self->{journals} })
    {
        my $note = $json->decode($line);
        if ($note->{kind} eq 'nothing')
        {
            $nothing{ $note->{key} } = 1;
            next;
        }
        my $ids = join ' ', @{ $note->{ids} };
        push @wrong, "$note->{key}: $key{ $note->{key} }, then $ids" if ($key{ $note->{key} } // $ids) ne $ids;
        $key{ $note->{key} } = $ids;
        $self->{counts}{ $note->{kind} }{ $note->{key} } = 1;
    }
    @$self{qw(key nothing)} = (\%key, \%nothing);
    return $self->_none('S01 S03 the same key has always given the same ids, to all clients', @wrong);
}

sub _compare_keys
{
    my ($self) = @_;
    my %result = map { $_->[0] => $_->[1] }
      $self->_table(q(SELECT key, array_to_string(result, ' ') FROM payment.idempotency));
    # what was done to an order answers with the order, and its number
    $self->_none('S67 what was acknowledged is there, under its key',
        grep { ($result{$_} // '') !~ /^\Q$self->{key}{$_}\E(?: 0{8}-[-0-9a-f]+)?$/ } keys %{ $self->{key} });
    $self->_none('S17 what was rolled back or refused is not', grep { exists $result{$_} } keys %{ $self->{nothing} });
    $self->_none('and nothing else is', grep { !exists $self->{key}{$_} } keys %result);
    my %known = map { $_ => 1 } map { split / / } values %result;
    return $self->_none('no order, refund or payout without a key',
        grep { !$known{$_} } keys %{ $self->{object} }, keys %{ $self->{refund} });
}

# how one object differs from what the PSP did for it
sub _difference
{
    my ($self, $of) = @_;
    my @moved = $self->_moved($of->{id});
    my $expected = $ends{ $of->{status} };
    my %keys = map { $_->{idempotency_key} => 1 } @moved;
    return 'is not final' if !defined $expected;
    return 'moved under keys ' . join ' ', sort keys %keys if keys %keys > 1;
    return 'moved ' . @moved . ' times' if @moved != $expected;
    return if !$expected;
    return "is $moved[0]{status} there" if $moved[0]{status} !~ /^(?:succeeded|paid)$/;
    my $amount = $of->{what} eq 'order' ? $of->{captured} : $of->{amount};
    return "is $moved[0]{amount} $moved[0]{currency} there" if "$moved[0]{amount} \U$moved[0]{currency}" ne "$amount $of->{currency}";
    return "was done by $moved[0]{psp}" if $moved[0]{psp} ne $self->{psps}{ $of->{psp} };
    # PayPal's payouts have it as the batch's name, which the book does not tell
    return if $of->{what} eq 'payout' && $of->{psp} eq 'paypal';
    return "was done under the key '$moved[0]{idempotency_key}'" if $moved[0]{idempotency_key} !~ /^$of->{id}:(?:pay|payout|capture):\d+$/;
    return;
}

# S33: each refund is final, and together they are what the payer has back
sub _compare_refunds
{
    my ($self) = @_;
    my (@wrong, %back, %doubtful);
    foreach my $of (values %{ $self->{refund} })
    {
        if ($self->_is_refund_conflict($of))
        {
            $self->{conflicted}{ $of->{id} } = $doubtful{ $of->{order} } = 1;
            next;
        }
        push @wrong, "$of->{id} is $of->{status}" if $of->{status} !~ /^(?:succeeded|failed|cancelled)$/;
        push @wrong, "$of->{id} was executed under several keys" if keys %{ $self->{executed}{ $of->{id} } // {} } > 1;
        $back{ $of->{order} } += $of->{amount} if $of->{status} eq 'succeeded';
    }
    $self->_none('S33 every refund is final, and was executed under one key', @wrong);
    $self->{doubtful} = \%doubtful;
    @wrong = ();
    foreach my $order (grep { !$doubtful{$_} && !$self->{conflicted}{$_} } keys %{ $self->{book} })
    {
        my ($there, $here) = ($self->_given_back($order), $back{$order} // 0);
        push @wrong, "$order: $here here, $there there" if $there != $here;
    }
    return $self->_none('S32 S33 payers have back what the refunds say, order by order', @wrong);
}

sub _given_back
{
    my ($self, $order) = @_;
    my $sum = 0;
    $sum += $_->{amount_refunded} || 0 foreach @{ $self->{book}{$order} // [] };
    return $sum;
}

sub _compare_objects
{
    my ($self) = @_;
    my (@wrong, $conflicts);
    foreach my $of (values %{ $self->{object} })
    {
        if ($self->_is_conflict($of))
        {
            $self->{conflicted}{ $of->{id} } = 1;
            next;
        }
        my $difference = $self->_difference($of);
        push @wrong, "$of->{what} $of->{id}, $of->{status}, $difference" if defined $difference;
    }
    $self->_none('S67 every order and payout is final, as the PSP has it, once, under one key', @wrong);
    $self->_none('the PSP did nothing that nobody here asked for',
        grep { !$self->{object}{$_} } keys %{ $self->{book} });
    return $self->_none('exceptions are about what the PSP did otherwise than asked for',
        map { "$_ @{ $self->{exceptions}{$_} }" } grep { !$self->{conflicted}{$_} } keys %{ $self->{exceptions} });
}

# What the orders, refunds and payouts add up to: what sellers have in all, less
# what they owe.  (Where a refund finds the money is verify()'s to judge.)
sub _expected_wallets
{
    my ($self) = @_;
    my %wallet;
    foreach my $of (values %{ $self->{object} })
    {
        my $wallet = $wallet{"$of->{seller} $of->{currency}"} //= { has => 0, in_payout => 0 };
        if ($of->{what} eq 'payout')
        {
            $wallet->{has} -= $of->{amount} if $of->{status} ne 'failed';
            $wallet->{in_payout} += $of->{amount} if $of->{status} !~ /^(?:failed|paid)$/;
        }
        elsif ($of->{status} eq 'captured')
        {
            $wallet->{has} += $of->{captured} - $of->{fee};
            $wallet->{has} -= $_->{amount} - $_->{fee} foreach grep { $_->{status} !~ /^(?:failed|cancelled)$/ } $self->_refunds_of($of->{id});
        }
    }
    return map { my $w = $wallet{$_}; "$_ $w->{has} $w->{in_payout}" }
      grep { my $w = $wallet{$_}; grep { $_ } values %$w } sort keys %wallet;
}

# What the PSP holds for us, and what our bank has paid, as its book adds up.
sub _expected_totals
{
    my ($self) = @_;
    my %total;
    foreach my $id (grep { !$self->{conflicted}{$_} } keys %{ $self->{book} })
    {
        my $of = $self->{object}{$id} // next;
        my $account = $of->{what} eq 'payout' ? 'bank' : 'psp_receivable';
        $total{"$account $of->{currency}"} += $_->{amount} * ($account eq 'bank' ? -1 : 1) foreach $self->_moved($id);
        next if $of->{what} eq 'payout';
        my $back = $self->_given_back($id);
        # ... of which one is people's to say
        $back = List::Util::sum(0, map { $_->{amount} } grep { $_->{status} eq 'succeeded' } $self->_refunds_of($id)) if $self->{doubtful}{$id};
        $total{"$account $of->{currency}"} -= $back if $back;
    }
    return map { "$_ $total{$_}" } grep { $total{$_} } sort keys %total;
}

sub _compare_ledger
{
    my ($self) = @_;
    my $t = $self->{t};
    is_deeply(
        [ map { join ' ', @$_ } $self->_table(<<'SQL') ],
SELECT seller_id, currency, pending + available - owed AS has, in_payout FROM payment.wallet
WHERE pending + available <> owed OR in_payout <> 0 ORDER BY seller_id, currency
SQL
        [ $self->_expected_wallets ],
        'wallets are what orders, refunds and payouts add up to');
    is_deeply(
        [ map { join ' ', @$_ } $self->_table(<<'SQL') ],
SELECT a.code, a.currency, sum(e.amount) FROM payment.entry AS e JOIN payment.account AS a ON a.id = e.account_id
    JOIN payment.journal AS j ON j.id = e.journal_id
WHERE a.code IN ('bank', 'psp_receivable') AND j.kind <> 'psp_fee' GROUP BY a.code, a.currency HAVING sum(e.amount) <> 0 ORDER BY a.code, a.currency
SQL
        [ $self->_expected_totals ],
        "the ledger is what the PSP's book adds up to, by currency");
    is_deeply([ few($t->book_differences(except => [ keys %{ $self->{conflicted} } ])) ], [], 'and by order');
    is($t->sql('SELECT * FROM payment.verify() LIMIT 10'), '', 'verify() finds nothing');
    return;
}

sub few { my @all = sort @_; return splice @all, 0, 5 }

sub _compare_traces
{
    my ($self) = @_;
    $self->_none('no task is left but dead letters of what people are told of',
        map { "@$_" } grep { $_->[4] eq 'f' || !$self->{conflicted}{ $_->[1] } }
          $self->_table('SELECT operation, object_id, step, tries, dead_at IS NOT NULL, last_error FROM payment.task'));
    $self->_none_in('every attempt has its end', 'SELECT id, psp_key FROM payment.attempt WHERE finished_at IS NULL OR outcome IS NULL');
    $self->_none_in('no attempt, journal or exception without its object', <<'SQL');
WITH object AS (SELECT id FROM payment.order_record UNION ALL SELECT id FROM payment.payout_record
    UNION ALL SELECT id FROM payment.refund_record)
SELECT 'attempt', a.id FROM payment.attempt AS a WHERE NOT EXISTS (SELECT FROM object AS o WHERE o.id = a.object_id)
UNION ALL
SELECT 'journal', j.id FROM payment.journal AS j WHERE NOT EXISTS (SELECT FROM object AS o WHERE o.id = j.subject)
    AND NOT (j.kind = 'psp_fee' AND EXISTS (SELECT FROM payment.psp AS p WHERE p.id = j.subject))
UNION ALL
SELECT 'exception', x.id FROM payment.exception_record AS x WHERE NOT EXISTS (SELECT FROM object AS o WHERE o.id = x.order_id)
UNION ALL
SELECT 'order', o.id FROM payment.order_record AS o
WHERE NOT EXISTS (SELECT FROM payment.payment_record AS p WHERE p.id = o.payment_id)
SQL
    $self->_none_in('the history of each is a chain of legal steps, up to its status', <<'SQL');
WITH step AS (
    SELECT h.*, lag(to_status) OVER w AS before, lead(id) OVER w IS NULL AS is_last
    FROM payment.status_history AS h WINDOW w AS (PARTITION BY object_id ORDER BY id)
), object AS (
    SELECT id, status FROM payment.order_record UNION ALL SELECT id, status FROM payment.payout_record
    UNION ALL SELECT id, status FROM payment.payment_record UNION ALL SELECT id, status FROM payment.refund_record
)
SELECT s.object, s.object_id, s.before, s.from_status, s.to_status, o.status
FROM step AS s JOIN object AS o ON o.id = s.object_id
WHERE s.before IS DISTINCT FROM s.from_status OR (s.is_last AND s.to_status <> o.status)
    OR NOT EXISTS (SELECT FROM payment.transitions() AS t WHERE t.object = s.object
        AND t.from_status IS NOT DISTINCT FROM s.from_status AND t.to_status = s.to_status AND s.cause = ANY (t.causes))
SQL
    $self->_none_in('payments are what their orders are', <<'SQL');
SELECT p.id, p.status, o.captured, o.open, o.total
FROM payment.payment_record AS p
    CROSS JOIN LATERAL (SELECT count(*) AS total, count(*) FILTER (WHERE status = 'captured') AS captured,
            count(*) FILTER (WHERE status IN ('conflicted', 'unknown')) AS open
        FROM payment.order_record WHERE payment_id = p.id) AS o
WHERE p.status <> CASE WHEN o.open > 0 THEN 'processing' WHEN o.captured = o.total THEN 'succeeded'
    WHEN o.captured > 0 THEN 'partially_succeeded' ELSE 'failed' END
SQL
    return;
}

# No request without a claim that had been committed before.
sub _compare_requests
{
    my ($self) = @_;
    my %claimed = map { $_->[0] => $_->[1] } $self->_table('SELECT psp_key, count(*) FROM payment.attempt GROUP BY psp_key');
    my @wrong;
    foreach my $key (keys %{ $self->{sent} })
    {
        my %times = %{ $self->{sent}{$key} };
        my $claims = $claimed{$key} // 0;
        push @wrong, map { "$key: $times{$_} times $_, $claims claims" } grep { $times{$_} > $claims } keys %times;
    }
    return $self->_none('no request was sent without a claim of its own', @wrong);
}

=head2 tell

All tests, once nothing is under way.

=cut

sub tell
{
    my ($self) = @_;
    $self->see_requests;
    $self->_read_book;
    $self->_read_database;
    $self->_read_journals;
    $self->_compare_keys;
    $self->_compare_refunds;
    $self->_compare_objects;
    $self->_compare_ledger;
    $self->_compare_traces;
    $self->_compare_requests;
    return;
}

=head2 count(kind), conflicts

Acknowledged payments or payouts; what is left for people to settle.

=cut

sub count     { my ($self, $kind) = @_; return scalar keys %{ $self->{counts}{$kind} // {} } }
sub conflicts { return scalar keys %{ $_[0]->{conflicted} // {} } }

1;
