# S65: what a superuser does behind the guards, verify() names, and nothing
# else.  Each corruption is planted with all triggers disabled, and rolled back.
use strict;
use warnings;

use PaymentTest;
use Test::More;

# without the worker: nothing changes but what is planted
my $t = PaymentTest->new('verify', preload => '');

# Accounts a to f in USD and EUR; journals; a hold of which a part was posted;
# a part of a journal reversed; an order captured and released, one that is
# not, a payout paid and one failed.  All of them with a name.
$t->sql(<<'SQL');
CREATE TABLE name (name text PRIMARY KEY, id uuid UNIQUE);
CREATE FUNCTION id(what text) RETURNS uuid LANGUAGE sql STABLE AS 'SELECT id FROM name WHERE name = what';

INSERT INTO name SELECT code, payment.open_account(code, kind, currency, NULL, min_balance, max_balance)
FROM (VALUES ('a', 'asset', 'USD', NULL::bigint, NULL::bigint), ('b', 'revenue', 'USD', NULL, NULL),
    ('c', 'liability', 'USD', NULL, 0), ('d', 'asset', 'USD', 0, 1000),
    ('e', 'asset', 'EUR', NULL, NULL), ('f', 'equity', 'EUR', NULL, NULL), ('empty', 'asset', 'USD', NULL, NULL))
    n (code, kind, currency, min_balance, max_balance);
INSERT INTO name SELECT 'three legs', payment.post_journal('sale', ARRAY[id('a'), id('b'), id('c')], '{100,-10,-90}');
INSERT INTO name SELECT 'two legs', payment.post_journal('sale', ARRAY[id('a'), id('b')], '{50,-50}');
INSERT INTO name SELECT 'euros', payment.post_journal('sale', ARRAY[id('e'), id('f')], '{7,-7}');
INSERT INTO name SELECT 'limited', payment.post_journal('sale', ARRAY[id('d'), id('b')], '{20,-20}');
INSERT INTO name SELECT 'hold', payment.create_hold(id('c'), 40);
INSERT INTO name SELECT 'part of hold', payment.post_hold(id('hold'), ARRAY[id('a')], '{-15}');
INSERT INTO name SELECT 'voided', payment.create_hold(id('c'), 5);
SELECT payment.void_hold(id('voided'));
INSERT INTO name SELECT 'reversal', payment.reverse_journal(id('two legs'), 20);

SELECT payment.register_psp('psp', 'none', 'http://127.0.0.1:1', 'none'), payment.register_seller('seller', 'Seller'),
    payment.set_fee_schedule(0, 1000);
SELECT payment.checkout('k', 'payer', '[{"seller": "seller", "amount": 1000, "currency": "USD", "reference": "order"},
    {"seller": "seller", "amount": 300, "currency": "USD", "reference": "declined"}]', payment_method => 'pm');
CREATE FUNCTION answer(outcomes text[]) RETURNS void LANGUAGE sql AS $$
    SELECT payment.record_outcomes(array_agg(ROW(c.attempt_id, outcomes[c.n], 200, 25, 'ref_' || c.object_id, c.amount,
        c.currency, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)::payment.attempt_outcome ORDER BY n))
    FROM (SELECT *, row_number() OVER (ORDER BY object_id) AS n FROM payment.claim_tasks((SELECT id FROM payment.psp), 100, 60000)) c $$;
SELECT answer('{succeeded,declined}');
INSERT INTO name SELECT reference, id FROM payment.order_record;
SELECT payment.release(id('order'));
SELECT payment.payout(payment.seller_id('seller'), 200, 'USD', 'paid', 'p1'),
    payment.payout(payment.seller_id('seller'), 150, 'USD', 'failed', 'p2');
SELECT answer('{succeeded,failed}');
INSERT INTO name SELECT destination, id FROM payment.payout_record;
INSERT INTO name SELECT code, id FROM payment.account ON CONFLICT DO NOTHING;
INSERT INTO name SELECT kind || ' of ' || name, j.id FROM payment.journal j JOIN name ON name.id = j.subject
WHERE kind <> 'hold_posted' AND reverses IS NULL;
SQL

is($t->sql('SELECT string_agg(status, \' \' ORDER BY status) FROM (SELECT status FROM payment.order_record UNION ALL
    SELECT status FROM payment.payout_record) s'), 'captured declined failed paid', 'the orders and payouts are as planned');

# For our hands only: everything that refuses is switched off.
my $disable = <<'SQL';
DO $$
DECLARE
    t regclass;
BEGIN
    FOR t IN SELECT DISTINCT tgrelid::regclass FROM pg_trigger
        WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'payment'::regnamespace)
    LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER ALL', t);
    END LOOP;
END
$$;
CREATE FUNCTION pg_temp.plant(kind text, subject uuid, amounts bigint[]) RETURNS uuid LANGUAGE sql AS $p$
    WITH j AS (INSERT INTO payment.journal (id, kind, subject, effective_at, recorded_at)
        VALUES (payment.new_id(), kind, subject, now(), now()) RETURNING id),
    e AS (INSERT INTO payment.entry SELECT j.id, n, id((ARRAY['a', 'b'])[n]), amounts[n] FROM j, generate_series(1, cardinality(amounts)) n)
    SELECT id FROM j
$p$;
SQL

my $verify = <<'SQL';
SELECT 'found ' || check_name || ' ' || coalesce(name, '?') || ' ' || coalesce(expected::text, '-') || ' ' || coalesce(actual::text, '-')
FROM payment.verify() LEFT JOIN name ON id = object_id ORDER BY 1;
SQL

my %seen;

sub finds
{
    my ($name, $corruption, @expected) = @_;
    my $out = $t->sql("BEGIN;\n$disable\n$corruption;\n$verify\nROLLBACK;");
    my @found = map { /^found (.*)/ ? $1 : () } split /\n/, $out;
    $seen{ (split / /, $_)[0] } = 1 foreach @found;
    is_deeply(\@found, [ sort @expected ], $name) or diag(join "\n", map { "    '$_'" } @found);
    return;
}

finds('nothing is wrong', 'SELECT 1');

# ---- entries and journals ----

my $leg = sub { "UPDATE payment.entry SET $_[2] WHERE journal_id = id('$_[0]') AND leg = $_[1]" };

finds('an amount changed', $leg->('three legs', 1, 'amount = 101'), 'zero_sum three legs 0 1', 'balance a 116 115');
finds('the sign of an amount changed', $leg->('euros', 2, 'amount = 7'), 'zero_sum euros 0 14', 'balance f 7 -7');
finds('two amounts changed, so that the journal balances',
    "UPDATE payment.entry SET amount = amount + 5 * sign(amount)::int WHERE journal_id = id('three legs') AND leg < 3",
    'balance a 120 115', 'balance b -65 -60');
finds('an entry moved to another account', $leg->('three legs', 2, "account_id = id('a')"), 'balance a 105 115', 'balance b -50 -60');
finds('an entry moved to an account of another currency', $leg->('two legs', 2, "account_id = id('e')"),
    'zero_sum two legs 0 -50', 'zero_sum two legs 0 50', 'balance b -10 -60', 'balance e -43 7', 'reversal two legs 0 20');
finds('an entry moved to no account', $leg->('three legs', 3, "account_id = '00000000-0000-7000-8000-000000000000'"),
    'zero_sum three legs 0 90', 'entry_account ? 1 0', 'balance ? -90 0', 'balance c 15 -75');
finds('two entries changed places', "UPDATE payment.entry SET leg = 3 - leg + 10 WHERE journal_id = id('euros');
    UPDATE payment.entry SET leg = leg - 10 WHERE journal_id = id('euros')");
finds('an amount of zero', $leg->('three legs', 2, 'amount = 0'), 'zero_sum three legs 0 10', 'entry_amount three legs - 0', 'balance b -50 -60');
finds('the last entry deleted', "DELETE FROM payment.entry WHERE journal_id = id('three legs') AND leg = 3",
    'zero_sum three legs 0 90', 'balance c 15 -75');
finds('an entry deleted in the middle', "DELETE FROM payment.entry WHERE journal_id = id('three legs') AND leg = 2",
    'zero_sum three legs 0 10', 'journal_entries three legs 3 2', 'balance b -50 -60');
finds('all entries of a journal deleted', "DELETE FROM payment.entry WHERE journal_id = id('euros')",
    'journal_entries euros 2 0', 'balance e 0 7', 'balance f 0 -7');
finds('an entry added', "INSERT INTO payment.entry VALUES (id('euros'), 3, id('e'), 1)", 'zero_sum euros 0 1', 'balance e 8 7');
finds('a pair of entries added', "INSERT INTO payment.entry VALUES (id('euros'), 3, id('e'), 1), (id('euros'), 4, id('f'), -1)",
    'balance e 8 7', 'balance f -8 -7');
finds('an entry added after a gap', "INSERT INTO payment.entry VALUES (id('euros'), 4, id('e'), 1)",
    'zero_sum euros 0 1', 'journal_entries euros 4 3', 'balance e 8 7');
finds('a journal deleted', "DELETE FROM payment.journal WHERE id = id('euros')", 'entry_journal euros 1 0', 'entry_journal euros 1 0');
finds('a journal deleted with its entries',
    "DELETE FROM payment.entry WHERE journal_id = id('euros'); DELETE FROM payment.journal WHERE id = id('euros')",
    'balance e 0 7', 'balance f 0 -7');
finds('a journal added', "SELECT pg_temp.plant('sale', NULL, '{}')", 'journal_entries ? 2 0');
finds('a journal of one entry added', "SELECT pg_temp.plant('sale', NULL, '{3}')",
    'zero_sum ? 0 3', 'journal_entries ? 2 1', 'balance a 118 115');
finds('a whole journal added', "SELECT pg_temp.plant('sale', NULL, '{3,-3}')", 'balance a 118 115', 'balance b -63 -60');

# ---- accounts and balances ----

my $slot = sub { "UPDATE payment.balance_slot SET $_[1] WHERE account_id = id('$_[0]')" };
my $account = sub { "UPDATE payment.account SET $_[1] WHERE id = id('$_[0]')" };

finds('a balance changed', $slot->('e', 'balance = balance + 1'), 'balance e 7 8');
finds('balances of two accounts changed by the same', $slot->('e', 'balance = 9') . '; ' . $slot->('f', 'balance = -9'),
    'balance e 7 9', 'balance f -7 -9');
finds('a slot deleted', "DELETE FROM payment.balance_slot WHERE account_id = id('e')", 'balance e 7 0');
finds('a slot added', "INSERT INTO payment.balance_slot VALUES (id('e'), 1, 5)", 'balance e 7 12');
finds('a slot added to an account without entries', "INSERT INTO payment.balance_slot VALUES (id('empty'), 1, 5)", 'balance empty 0 5');
finds('an empty slot is no matter', "INSERT INTO payment.balance_slot VALUES (id('empty'), 1, 0)");
finds('a slot of no account', "INSERT INTO payment.balance_slot VALUES ('00000000-0000-7000-8000-000000000000', 1, 0)", 'slot_account ? 1 0');
finds('a slot of no account, with money', "INSERT INTO payment.balance_slot VALUES ('00000000-0000-7000-8000-000000000000', 1, 4)",
    'slot_account ? 1 0', 'balance ? 0 4');
finds('a slot given to another account', $slot->('e', "account_id = id('empty')"), 'balance e 7 0', 'balance empty 0 7');
finds('an account deleted', "DELETE FROM payment.account WHERE id = id('e')",
    'zero_sum euros 0 -7', 'entry_account e 1 0', 'slot_account e 1 0');
finds('an account given another currency', $account->('e', "currency = 'JPY'"), 'zero_sum euros 0 -7', 'zero_sum euros 0 7');
finds('an upper limit that the balance is past', $account->('a', 'max_balance = 114'), 'limit a 114 115');
finds('a lower limit that the balance is past', $account->('d', 'min_balance = 21'), 'limit d 21 20');
finds('limits that the balance just keeps', $account->('d', 'min_balance = 20, max_balance = 20'));
finds('a balance, with its entries, past its limit', "SELECT pg_temp.plant('sale', NULL, '{-21,21}');
    UPDATE payment.entry SET account_id = id('d') WHERE account_id = id('a') AND amount = -21;"
      . $slot->('d', 'balance = -1') . '; ' . $slot->('b', 'balance = balance + 21'), 'limit d 0 -1');
finds('a closed account with money', $account->('e', "state = 'closed'"), 'closed_account e 0 7');
finds('a frozen account with money, a closed one without', $account->('e', "state = 'frozen'") . '; ' . $account->('empty', "state = 'closed'"));

# ---- holds ----

my $hold = sub { "UPDATE payment.hold SET $_[1] WHERE id = id('$_[0]')" };

finds('a hold of all there is', $hold->('hold', 'amount = 90'));
finds('a hold of more than there is', $hold->('hold', 'amount = 91'), 'hold_limit c 0 1');
finds('a hold of which more was posted', $hold->('hold', 'posted = 16'), 'hold_posted hold 16 15');
finds('a hold of which nothing was posted', $hold->('hold', 'posted = 0'), 'hold_posted hold 0 15');
finds('a hold deleted', "DELETE FROM payment.hold WHERE id = id('hold')", 'hold_posted hold 0 15');
finds('a hold moved to another account', $hold->('hold', "account_id = id('b')"), 'hold_posted hold 15 0');
finds('a hold of no account', $hold->('hold', "account_id = '00000000-0000-7000-8000-000000000000'"),
    'hold_state hold 40 15', 'hold_posted hold 15 0');
finds('a voided hold opened again', $hold->('voided', "state = 'open'"), 'hold_state voided 5 0');
finds('an open hold closed without a time', $hold->('hold', "state = 'voided'"), 'hold_state hold 40 15');
finds('a hold expired before its time', $hold->('hold', "state = 'expired', closed_at = now()"), 'hold_state hold 40 15');
finds('a hold posted without a journal', $hold->('voided', "state = 'posted'"), 'hold_state voided 5 0');
finds('a journal of the hold deleted', "DELETE FROM payment.entry WHERE journal_id = id('part of hold');
    DELETE FROM payment.journal WHERE id = id('part of hold')", 'hold_posted hold 15 0', 'balance a 130 115', 'balance c -90 -75');
finds('a journal of the hold twice', "SELECT pg_temp.plant('hold_posted', id('hold'), '{-1,1}');
    UPDATE payment.entry SET account_id = id('c') WHERE account_id = id('b') AND amount = 1",
    'hold_posted hold 15 16', 'balance a 114 115', 'balance c -74 -75');

# ---- reversals ----

finds('the record of a reversal deleted', 'DELETE FROM payment.reversal', 'reversal_record reversal 1 0');
finds('a reversal taken from the record', "UPDATE payment.reversal SET reversals = '{}'", 'reversal_record reversal 1 0');
finds('a reversal of more than there was', "UPDATE payment.entry SET amount = 3 * amount WHERE journal_id = id('reversal')",
    'reversal two legs -50 -60', 'reversal two legs 50 60', 'balance a 75 115', 'balance b -20 -60');
finds('a reversal in the same direction', "UPDATE payment.entry SET amount = -amount WHERE journal_id = id('reversal')",
    'reversal two legs -50 20', 'reversal two legs 50 -20', 'balance a 155 115', 'balance b -100 -60');
finds('a reversal of nothing', "UPDATE payment.journal SET reverses = NULL WHERE id = id('reversal')", 'reversal_record reversal 1 0');
finds('a reversal by another name', "UPDATE payment.journal SET kind = 'sale' WHERE id = id('reversal')", 'reversal_record reversal 1 0');
finds('a reversal of another journal', "UPDATE payment.journal SET reverses = id('three legs') WHERE id = id('reversal')",
    'reversal three legs 10 20', 'reversal_record reversal 1 0');
finds('a journal made a reversal', "UPDATE payment.journal SET reverses = id('euros') WHERE id = id('three legs')",
    'reversal euros 0 -10', 'reversal euros 0 -90', 'reversal euros 0 100', 'reversal_record three legs 1 0');

# ---- orders and payouts ----

my $order = sub { "UPDATE payment.order_record SET $_[1] WHERE id = id('$_[0]')" };
my $payout = sub { "UPDATE payment.payout_record SET $_[1] WHERE id = id('$_[0]')" };
my $copy = sub { "INSERT INTO payment.journal SELECT payment.new_id(), kind, subject, NULL, now(), now() FROM payment.journal WHERE id = id('$_[0]');
    INSERT INTO payment.entry SELECT (SELECT max(id::text)::uuid FROM payment.journal), leg, account_id, amount FROM payment.entry WHERE journal_id = id('$_[0]')" };
my $delete = sub { "DELETE FROM payment.entry WHERE journal_id = id('$_[0]'); DELETE FROM payment.journal WHERE id = id('$_[0]')" };

finds('a captured amount changed', $order->('order', 'captured_amount = 999'), 'order_capture order 999 1000');
finds('a capture of a declined order', $order->('declined', 'captured_amount = 300'),
    'order_capture declined 1 0', 'order_capture declined 300 0', 'order_capture declined -30 0');
finds('a captured order undone', $order->('order', 'captured_amount = 0, captured_fee = 0, released_at = NULL'),
    'order_capture order 0 1', 'order_capture order 0 1000', 'order_capture order 0 -100', 'order_release order 0 1');
finds('a platform fee changed', $order->('order', 'platform_fee = 90'), 'order_capture order -90 -100');
finds('an order given another currency', $order->('order', "currency = 'EUR'"),
    'order_capture order 1 0', 'order_capture order 1000 0', 'order_capture order -100 0',
    'order_capture order 0 1', 'order_capture order 0 1000', 'order_capture order 0 -100');
finds('an order deleted', "DELETE FROM payment.order_record WHERE id = id('order')",
    'order_capture order 0 1', 'order_capture order 0 1000', 'order_capture order 0 -100', 'order_release order 0 1');
finds('a release deleted', $delete->('release of order'), 'order_release order 1 0', 'order_pending order 0 900',
    'balance seller_pending -900 0', 'balance seller_available 200 -700');
finds('a refunded amount changed', $order->('order', 'refunded_amount = 5'), 'order_refunds order 5 0');
finds('an order not released, with a journal', $order->('order', 'released_at = NULL'), 'order_release order 0 1');
finds('a capture deleted', $delete->('capture of order'),
    'order_capture order 1 0', 'order_capture order 1000 0', 'order_capture order -100 0', 'order_pending order 0 -900',
    'balance psp_receivable 0 1000', 'balance platform_fee 0 -100', 'balance seller_pending 900 0');
finds('a capture twice', $copy->('capture of order'),
    'order_capture order 1 2', 'order_capture order 1000 2000', 'order_capture order -100 -200', 'order_pending order 0 900',
    'balance psp_receivable 2000 1000', 'balance platform_fee -200 -100', 'balance seller_pending -900 0');
finds('a release twice', $copy->('release of order'), 'order_release order 1 2', 'order_pending order 0 -900',
    'balance seller_pending 900 0', 'balance seller_available -1600 -700');

finds('more refunded than refunds say', $order->('order', 'refunded_amount = 7'), 'order_refunds order 7 0');
finds('more of the fee returned than refunds say', $order->('order', 'refunded_amount = 7, fee_returned = 3'),
    'order_refunds order 7 0', 'order_refunds order 3 0');
finds('a refund that nobody asked for', "INSERT INTO payment.refund_record SELECT '01900000-0000-7000-8000-000000000001', id, seller_id,
    psp_id, 2000, currency, 2000, 0, 0, 0, 'pending', 1, NULL, NULL, NULL, NULL, 'me', now() FROM payment.order_record WHERE id = id('order')",
    'order_refunds order 0 2000', 'order_refunds order 0 2000', 'order_refunds order 0 1000',
    'refund ? 1 0', 'refund ? -2000 0');
finds('more disputed than disputes say', $order->('order', 'disputed_amount = 7, disputed_fee = 3, open_disputes = 1'),
    'order_disputes order 7 0', 'order_disputes order 3 0', 'order_disputes order 1 0');
finds('a dispute that took nothing', "INSERT INTO payment.dispute_record SELECT '01900000-0000-7000-8000-000000000002', id, seller_id,
    psp_id, 500, currency, 'chargeback/open', 'dp_x', NULL, NULL, true, 0, 400, 0, 100, 0, 15, 'EUR', 0, now(), 1 FROM payment.order_record
    WHERE id = id('order')", 'order_disputes order 0 500', 'order_disputes order 0 100', 'order_disputes order 0 1',
    'dispute ? 1 0', 'dispute ? 500 0', 'dispute ? -400 0', 'dispute ? 15 0');
finds('a pending amount that is not there', $order->('order', 'pending_amount = 5'), 'order_pending order 5 0');

finds('a paid payout back on its way', $payout->('paid', "status = 'in_transit'"), 'payout paid 0 1');
finds('a failed payout paid', $payout->('failed', "status = 'paid'"), 'payout failed 1 0', 'payout failed 0 1');
finds('a payout of another amount', $payout->('paid', 'amount = 199'), 'payout paid -199 -200');
finds('a payout deleted', "DELETE FROM payment.payout_record WHERE id = id('paid')", 'payout paid 0 1', 'payout paid 0 1');
finds('a payout without its journal', $delete->('payout of paid'), 'payout paid 1 0',
    'balance seller_available -900 -700', 'balance payout_clearing 200 0');
finds('a payout paid twice', $copy->('payout_paid of paid'), 'payout paid 1 2',
    'balance bank -400 -200', 'balance payout_clearing 200 0');
finds('a payout failed twice', $copy->('payout_failed of failed'), 'payout failed 1 2',
    'balance seller_available -850 -700', 'balance payout_clearing 150 0');

# ---- several at once, and all of it ----

finds('several at once', $leg->('euros', 1, 'amount = 8') . '; ' . $slot->('d', 'balance = -1') . '; '
      . $account->('b', "state = 'closed'") . '; ' . $hold->('hold', 'posted = 20') . '; ' . $order->('order', 'platform_fee = 1'),
    'zero_sum euros 0 1', 'balance e 8 7', 'balance d 20 -1', 'limit d 0 -1', 'closed_account b 0 -60', 'hold_posted hold 20 15',
    'order_capture order -1 -100');
{
    my $rows = $t->sql("BEGIN;\n$disable\nTRUNCATE payment.journal, payment.entry;\nSELECT string_agg(DISTINCT check_name, ' ' ORDER BY check_name)
        FROM payment.verify();\nROLLBACK");
    is($rows, 'balance hold_posted order_capture order_release payout', 'journals and entries truncated');
}

# Every check of verify() has found something here, but for those of detached
# partitions, which have a test of their own.
{
    my $all = 'balance closed_account dispute entry_account entry_amount entry_journal hold_limit hold_posted hold_state '
      . 'journal_entries limit order_capture order_disputes order_pending order_refunds order_release payout refund reversal reversal_record slot_account zero_sum';
    is(join(' ', sort keys %seen), $all, 'each check found something');
}

# With the guards in place none of it gets that far, whoever tries.
foreach my $table (qw(account journal entry balance_slot hold reversal))
{
    foreach my $statement ("INSERT INTO payment.$table SELECT * FROM payment.$table", "UPDATE payment.$table SET " . {
            account => 'max_balance = 1', journal => "kind = 'x'", entry => 'amount = 1', balance_slot => 'balance = 1',
            hold => 'posted = 0', reversal => "reversals = '{}'" }->{$table}, "DELETE FROM payment.$table", "TRUNCATE payment.$table")
    {
        my ($verb) = split / /, $statement;
        is($t->sqlstate("SET session_replication_role = replica;\n$statement;"), 'PY203', "S65 $verb on $table is refused");
    }
}
finds('and nothing is wrong', 'SELECT 1');

$t->finish;
