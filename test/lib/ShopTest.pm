=head1 NAME

ShopTest - a shop's pages, which a browser buys at

=head1 SYNOPSIS

  my $shop = ShopTest->new($t);
  $browser->go($shop->url('/basket?key=one&psp=sandbox&sellers=alice,bob'));
  $browser->follow('#buy');          # now at the PSP's page
  my $bought = $shop->bought('one'); # { payment, orders => [ ... ] }

Does what docs/integration.md tells applications to do: checkout() and its own
row in one transaction, on to the PSP's page, and nobody's word but the
database's for whether somebody has paid. Each connection has a process of its
own, since browsers open some that they then do not use.

=cut

package ShopTest;

use strict;
use warnings;

use HTTP::Tiny;
use IO::Socket::INET ();
use PaymentTest;
use POSIX ();

# process id of a shop => that of the process that started it
my %shops;

END
{
    local $?;
    kill 'KILL', grep { $shops{$_} == $$ } keys %shops;
}

=head2 ShopTest->new(test)

Opens it: a role and a table of its own, and a server on loopback.

=cut

sub new
{
    my ($class, $t) = @_;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 50) or die "listen: $!";
    my $self = bless { t => $t, port => $listener->sockport }, $class;
    $t->sql(<<'SQL');
CREATE ROLE shop IN ROLE payment_app;
CREATE TABLE basket (key text PRIMARY KEY, payment_id uuid NOT NULL, order_ids uuid[] NOT NULL);
GRANT SELECT, INSERT ON basket TO shop;
SQL
    my $pid = fork // die "fork: $!";
    $shops{$pid} = $$ if $pid;
    return $self if $pid;
    local $SIG{CHLD} = 'IGNORE';
    while (my $client = $listener->accept)
    {
        next if fork // die "fork: $!";
        close $listener;
        local $SIG{CHLD} = 'DEFAULT';
        eval { $self->_serve($client); 1 } or warn $@;
        close $client;
        # no destructors and END blocks of the test's
        POSIX::_exit(0);
    }
    POSIX::_exit(0);
}

=head2 url(path), bought(key)

=cut

sub url { my ($self, $path) = @_; return "http://127.0.0.1:$self->{port}$path" }

sub bought
{
    my ($self, $key) = @_;
    my ($row) = $self->{t}->rows('SELECT payment_id AS payment, order_ids AS orders FROM basket WHERE key = ' . PaymentTest::literal($key));
    return $row;
}

sub _serve
{
    my ($self, $client) = @_;
    my ($length, $form) = (0, '');
    my ($method, $path, $query) = (<$client> // return) =~ m{^(\w+) ([^? ]+)\??(\S*) HTTP} or return;
    while (defined(my $line = <$client>))
    {
        last if $line eq "\r\n";
        $length = $1 if $line =~ /^Content-Length: (\d+)/i;
    }
    read $client, $form, $length if $length;
    my %field = map { s/\+/ /gr =~ s/%(..)/chr hex $1/ger } map { (split(/=/, $_, 2), '')[ 0, 1 ] } split /&/, $method eq 'POST' ? $form : $query;
    my ($status, $title, $body, $location) = $self->_answer("$method $path", \%field);
    my $page = qq(<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>$title</title><h1>$title</h1>$body</html>);
    print $client "HTTP/1.1 $status Answer\r\nConnection: close\r\nCache-Control: no-store\r\nContent-Type: text/html\r\nContent-Length: ", length $page,
      defined $location ? "\r\nLocation: $location" : '', "\r\n\r\n", $page;
    return;
}

sub _answer
{
    my ($self, $request, $field) = @_;
    my $key = ($field->{key} // '') =~ s/\W//gr;
    my $hidden = join '', map { qq(<input type="hidden" name="$_" value=") . ($field->{$_} // '') =~ s/[^\w,]//gr . '">' } qw(key psp sellers);
    return (200, 'Basket', qq(<form method="post" action="/buy">$hidden)
          . q(<label>Message to the seller <input name="message" id="message"></label> <button id="buy">Buy</button></form>))
      if $request eq 'GET /basket';
    return $self->_buy($key, $field) if $request eq 'POST /buy';
    my %says = (succeeded => 'Paid', map { $_ => 'Not paid' } qw(failed expired cancelled));
    return (200, 'Thank you', '<p id="status">' . ($says{ $self->_status($key) } // 'Waiting for the confirmation') . '</p>')
      if $request eq 'GET /thanks';
    return (200, 'Cart', '<p id="status">Nothing was paid</p>') if $request eq 'GET /cart';
    return (404, 'Not found', '');
}

sub _status
{
    my ($self, $key) = @_;
    return $self->{t}->sql("SET ROLE shop; SELECT status FROM payment.payment WHERE id = (SELECT payment_id FROM basket WHERE key = '$key')");
}

sub _buy
{
    my ($self, $key, $field) = @_;
    my $t = $self->{t};
    my @orders = map { { seller => $_, amount => 1000, currency => 'EUR', description => $field->{message} || 'One bowl' } } split /,/, $field->{sellers};
    my $call = $t->checkout_text($key, \@orders, payment_method => undef, psp => $field->{psp},
        hosted         => { success_url => $self->url("/thanks?key=$key&session={CHECKOUT_SESSION_ID}"), cancel_url => $self->url("/cart?key=$key") });
    my $bought = "INSERT INTO basket SELECT '$key', ids[1], ids[2:] FROM ($call) AS c (text), CAST(string_to_array(text, ' ') AS uuid[]) AS ids ON CONFLICT DO NOTHING";
    my ($status, undef, $error) = $t->try_sql("SET ROLE shop; $bought");
    return (422, 'That did not work', '<p role="alert">Please leave card numbers away.</p>') if $error =~ /card number/;
    return (500, 'That did not work', '<p role="alert">Try again.</p>') if $status != 0;
    my $url = '';
    PaymentTest::wait_until(
        sub { $url = $t->sql("SET ROLE shop; SELECT hosted_url FROM payment.payment AS p JOIN basket AS b ON b.payment_id = p.id WHERE b.key = '$key'") }, 60);
    return $url ? (303, 'One moment', '', $url) : (504, 'That took too long', '');
}

1;
