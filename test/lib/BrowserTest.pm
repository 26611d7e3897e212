=head1 NAME

BrowserTest - a payer's browser: Chromium, driven over WebDriver

=head1 SYNOPSIS

  plan(skip_all => BrowserTest::why_not()) if BrowserTest::why_not();
  my $browser = BrowserTest->new;
  $browser->go($url);
  $browser->click('input[value=pm_card_visa]');
  $browser->follow('#pay');
  like($browser->url, qr{/thanks}, 'back at the shop');
  $browser->quit;

Elements are named by CSS selectors. What leads to another page (go, follow,
back, reload) returns when that page is there, however long it takes; nothing
waits longer than a deadline, and then it dies. When a test fails, or the file
dies, the page is kept as a picture and as HTML in the folder of the TAP logs,
and the diagnostics name it. Whatever happens, no browser outlives its test.

=cut

package BrowserTest;

use strict;
use warnings;

use File::Basename ();
use File::Path ();
use File::Temp ();
use HTTP::Tiny;
use JSON::PP;
use MIME::Base64 ();
use POSIX ();
use PostgreSQL::Test::Utils ();
use Test2::API ();
use Test::More;
use Time::HiRes qw(sleep time);

use constant {
    CHROMIUM        => '/usr/bin/chromium',
    DRIVER          => '/usr/bin/chromedriver',
    WAIT_SECONDS    => 60,
    POLL_SECONDS    => 0.02,
    EVIDENCE_MAX    => 10,
    ELEMENT         => 'element-6066-11e4-a52e-4f735466cecf',
};

# what WebDriver calls the keys that are no letters
my %keys = (Tab => "\x{e004}", Enter => "\x{e007}", Space => ' ', Shift => "\x{e008}", Down => "\x{e015}");

my $json = JSON::PP->new->utf8->boolean_values(0, 1);
my @browsers;

sub why_not
{
    my @missing = grep { !-x } CHROMIUM, DRIVER;
    return @missing ? "no browser to test with (Debian's chromium and chromium-driver): @missing" : undef;
}

=head2 BrowserTest->new

A browser with a profile of its own, which nothing outlives. Chromium keeps its
pages in a sandbox of the kernel's; where that is not allowed to us, as in some
containers, it goes without.

=cut

sub new
{
    my ($class) = @_;
    my $folder = File::Temp::tempdir('browser-XXXXXX', TMPDIR => 1);
    my $self = bless { folder => $folder, owner => $$, documents => 0, evidence => 0 }, $class;
    push @browsers, $self;
    $self->{http} = HTTP::Tiny->new(timeout => WAIT_SECONDS, proxy => undef, http_proxy => undef);
    $self->_start_driver;
    if (!eval { $self->_start_session; 1 })
    {
        note("without its sandbox, since: $@");
        $self->_start_session('--no-sandbox');
    }
    # also of tests in subtests, at the moment that they fail
    Test2::API::test2_stack()->top->listen(
        sub {
            my ($hub, $event) = @_;
            return if !$event->causes_fail || $event->isa('Test2::Event::Subtest');
            $self->keep_evidence if $self->{session} && $$ == $self->{owner};
        },
        inherit => 1);
    return $self;
}

sub _start_driver
{
    my ($self) = @_;
    my $log = "$self->{folder}/driver.log";
    my $pid = fork // die "fork: $!";
    if (!$pid)
    {
        local %ENV = (%ENV, HOME => $self->{folder}, TMPDIR => $self->{folder});
        open STDIN, '<', '/dev/null' and open STDOUT, '>', $log and open STDERR, '>&', \*STDOUT and exec DRIVER, '--port=0';
        POSIX::_exit(127);
    }
    $self->{driver} = $pid;
    $self->wait_for(
        sub {
            ($self->{port}) = PostgreSQL::Test::Utils::slurp_file($log) =~ /successfully on port (\d+)/ if -s $log;
            return $self->{port} || waitpid($pid, POSIX::WNOHANG()) == $pid;
        },
        'the driver');
    die "the driver does not start\n" . PostgreSQL::Test::Utils::slurp_file($log) if !$self->{port};
    $self->_start_watch;
    return;
}

# Ends driver and browser when the test was killed and cannot.
sub _start_watch
{
    my ($self) = @_;
    my $pid = fork // die "fork: $!";
    return $self->{watch} = $pid if $pid;
    open $_, '+<', '/dev/null' foreach *STDIN, *STDOUT, *STDERR;
    setpgrp;
    sleep 1 while getppid == $self->{owner};
    $self->quit;
    POSIX::_exit(0);
}

sub _start_session
{
    my ($self, @flags) = @_;
    # pages are waited for here: see follow()
    my %options = (
        binary => CHROMIUM,
        args   => [
            '--headless=new', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update',
            '--disable-sync', '--disable-dev-shm-usage', '--disable-crash-reporter', '--no-proxy-server', '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
            '--window-size=1000,900', "--user-data-dir=$self->{folder}/profile", @flags ]);
    my $session = $self->_call('POST', '/session',
        { capabilities => { alwaysMatch => { browserName => 'chrome', pageLoadStrategy => 'none', 'goog:chromeOptions' => \%options } } });
    $self->{session} = $session->{sessionId};
    return;
}

sub _call
{
    my ($self, $method, $path, $body) = @_;
    my $answer = $self->{http}->request(
        $method,
        "http://127.0.0.1:$self->{port}$path",
        $method eq 'POST' ? { content => $json->encode($body // {}), headers => { 'Content-Type' => 'application/json' } } : {});
    my $value = (eval { $json->decode($answer->{content}) } // { value => { message => $answer->{content} } })->{value};
    die "WebDriver: $method $path: $answer->{status} $value->{message}\n" if !$answer->{success};
    return $value;
}

sub _command
{
    my ($self, $method, $path, $body) = @_;
    return $self->_call($method, "/session/$self->{session}$path", $body);
}

=head2 run(script, argument ...), devtools(method, parameters)

A function's body run in the page, which returns what it returns; and what
Chromium offers beyond WebDriver. Both work where pages may run no scripts.

=cut

sub run
{
    my ($self, $script, @arguments) = @_;
    return $self->_command('POST', '/execute/sync', { script => $script, args => \@arguments });
}

sub devtools
{
    my ($self, $method, $parameters) = @_;
    return $self->_command('POST', '/goog/cdp/execute', { cmd => $method, params => $parameters // {} });
}

=head2 wait_for(code, what)

Until the code returns true; until then it may die as well, as long as pages
come and go.

=cut

sub wait_for
{
    my ($self, $code, $what) = @_;
    my $until = time + WAIT_SECONDS;
    my $value;
    until (eval { $value = $code->() })
    {
        die "gave up waiting for $what: $@" if time > $until;
        sleep POLL_SECONDS;
    }
    return $value;
}

=head2 go(url), follow(selector), back, reload, leave(code)

Another page, by its address, by a click, in the usual ways, or by whatever the
code does.

=cut

sub go     { my ($self, $url)      = @_; return $self->leave(sub { $self->_command('POST', '/url', { url => $url }) }) }
sub follow { my ($self, $selector) = @_; return $self->leave(sub { $self->click($selector) }) }
sub back   { my ($self)            = @_; return $self->leave(sub { $self->_command('POST', '/back') }) }
sub reload { my ($self)            = @_; return $self->leave(sub { $self->_command('POST', '/refresh') }) }

# The page that is left is marked. Another one has no mark, or an older one.
sub leave
{
    my ($self, $code) = @_;
    my $mark = ++$self->{documents};
    $self->run('document.documentElement.setAttribute("data-left", arguments[0])', $mark);
    $code->();
    $self->wait_for(
        sub {
            $self->run('return document.readyState == "complete" && document.body != null
                && document.documentElement.getAttribute("data-left") != arguments[0]', $mark);
        },
        'another page');
    return;
}

=head2 url, title, text(selector), there(selector), attribute(selector, name)

What is to be seen. The text is that of the whole page without a selector.

=cut

sub url   { return $_[0]->_command('GET', '/url') }
sub title { return $_[0]->_command('GET', '/title') }

sub text
{
    my ($self, $selector) = @_;
    return $self->run('return document.querySelector(arguments[0]).innerText', $selector // 'body');
}

sub there { my ($self, $selector) = @_; return $self->run('return document.querySelector(arguments[0]) != null', $selector) }

sub attribute
{
    my ($self, $selector, $name) = @_;
    return $self->run('return document.querySelector(arguments[0]).getAttribute(arguments[1])', $selector, $name);
}

=head2 spoken(selector)

Role and name of an element, as a screen reader gets them.

=cut

sub spoken
{
    my ($self, $selector) = @_;
    my $element = $self->_element($selector);
    return join ' ', map { $self->_command('GET', "/element/$element/computed$_") } qw(role label);
}

=head2 click(selector), type(selector, text), press(key ...), focused

A click and typing as with mouse and keyboard; keys that go wherever the focus
is; and the id of what has it.

=cut

sub _element
{
    my ($self, $selector) = @_;
    return $self->_command('POST', '/element', { using => 'css selector', value => $selector })->{ (ELEMENT) };
}

sub click
{
    my ($self, $selector) = @_;
    $self->_command('POST', '/element/' . $self->_element($selector) . '/click');
    return;
}

sub type
{
    my ($self, $selector, $text) = @_;
    $self->_command('POST', '/element/' . $self->_element($selector) . '/value', { text => $text });
    return;
}

sub press
{
    my ($self, @names) = @_;
    my @actions = map { my $key = $keys{$_} // $_; ({ type => 'keyDown', value => $key }, { type => 'keyUp', value => $key }) } @names;
    $self->_command('POST', '/actions', { actions => [ { type => 'key', id => 'keyboard', actions => \@actions } ] });
    return;
}

sub focused { return $_[0]->run('return document.activeElement.id') }

=head2 click_again(selector, code ...)

A click, and another after each piece of code, wherever the first has led to:
unlike all else here, none of it waits for a page that is on its way.

=cut

sub click_again
{
    my ($self, $selector, @between) = @_;
    my $at = $self->run('const e = document.querySelector(arguments[0]); e.scrollIntoView(); const r = e.getBoundingClientRect();
        return {x: r.x + r.width / 2, y: r.y + r.height / 2}', $selector);
    foreach my $code (undef, @between)
    {
        $code->() if $code;
        $self->devtools('Input.dispatchMouseEvent', { type => $_, %$at, button => 'left', clickCount => 1 }) foreach qw(mousePressed mouseReleased);
    }
    return;
}

=head2 width(pixels), scripts(on)

How wide the window is, and whether pages may run scripts.

=cut

sub width
{
    my ($self, $width) = @_;
    $self->devtools('Emulation.setDeviceMetricsOverride',
        { width => $width, height => 900, deviceScaleFactor => 1, mobile => $width < 500 ? JSON::PP::true : JSON::PP::false });
    return;
}

sub scripts
{
    my ($self, $on) = @_;
    $self->devtools('Emulation.setScriptExecutionDisabled', { value => $on ? JSON::PP::false : JSON::PP::true });
    return;
}

=head2 keep_evidence

A picture of the page and its HTML in the folder of the logs.

=cut

sub keep_evidence
{
    my ($self) = @_;
    return if ++$self->{evidence} > EVIDENCE_MAX;
    my $name = 'browser_' . File::Basename::basename($0, '.pl') . "_$self->{evidence}";
    my $path = "$PostgreSQL::Test::Utils::log_path/$name";
    my $kept = eval {
        my %file = (
            png  => MIME::Base64::decode_base64($self->_command('GET', '/screenshot')),
            html => '<!-- ' . $self->url . " -->\n" . $self->_command('GET', '/source'));
        utf8::encode($file{html});
        PostgreSQL::Test::Utils::append_to_file("$path.$_", $file{$_}) foreach sort keys %file;
        1;
    };
    diag($kept ? "the page at that moment: $path.png (log/tap/$name.png after make test)" : "the page cannot be kept: $@");
    return;
}

=head2 quit

Ends browser and driver.

=cut

sub quit
{
    my ($self) = @_;
    if (my $watch = delete $self->{watch})
    {
        kill 'KILL', $watch;
        waitpid $watch, 0;
    }
    eval { $self->_command('DELETE', '') } if $self->{session};
    delete $self->{session};
    if (my $pid = delete $self->{driver})
    {
        kill 'TERM', $pid;
        my $until = time + 10;
        my $ended;
        sleep POLL_SECONDS until ($ended = waitpid $pid, POSIX::WNOHANG()) || time > $until;
        kill 'KILL', $pid and waitpid $pid, 0 if !$ended;
    }
    # a driver that died has left its browser alone
    for (1 .. 500)
    {
        my @pids = $self->processes or last;
        kill 'KILL', @pids;
        sleep POLL_SECONDS;
    }
    File::Path::remove_tree($self->{folder}, { error => \my $ignored });
    return;
}

=head2 processes

The ids of all that runs with this browser's profile.

=cut

sub processes
{
    my ($self) = @_;
    my @pids;
    foreach my $file (glob '/proc/[0-9]*/cmdline')
    {
        my $line = eval { PostgreSQL::Test::Utils::slurp_file($file) } // '';
        push @pids, $file =~ /(\d+)/ if index($line, "$self->{folder}/") >= 0;
    }
    return @pids;
}

END
{
    my $status = $?;
    foreach my $browser (grep { $_->{owner} == $$ } @browsers)
    {
        $browser->keep_evidence if $browser->{session} && $status != 0 && !$browser->{evidence};
        $browser->quit;
    }
    $? = $status;
}

1;
