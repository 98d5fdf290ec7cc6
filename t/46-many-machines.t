# Two and three `headgate serve` on one PostgreSQL and one Redis: even shares, each delivery once in the normal case, and
# at most twelve seconds without an owner when one is killed or stopped.
use v5.36;
use Test::More;
use Time::HiRes qw(time);

use Headgate::Edge;
use Headgate::Http;
use Headgate::Postgres;
use Headgate::Receiver;
use Headgate::Test;

my $executable = $ENV{HEADGATE_BIN} // Headgate::Test->root . '/build/headgate';
plan skip_all => 'this headgate was built without PostgreSQL' if qx(ldd $executable) !~ /libpq/;
plan skip_all => 'PostgreSQL is not installed' if !glob '/usr/lib/postgresql/*/bin/initdb';

my $t        = Headgate::Test->new;
my $postgres = Headgate::Postgres->start($t);
my $redis    = $t->redis;
my $receiver = Headgate::Receiver->start($t);
my $first    = $t->sidecar(redis => $redis, store => $postgres->url)->serve->wait_until_healthy;
my $front    = $first->front;
my $WEBHOOKS = 24;
for my $n (1 .. $WEBHOOKS) {
    $first->run_json('webhook', 'create', '--org', $first->org, '--url', $receiver->url("w$n"), '--events', 'order.*');
}

# ---- more instances: the same files, another address ------------------------------------------

sub another ($name) {
    my $port    = $t->port;
    my $process = $t->start(
        name => $name, command => [$first->executable, 'serve', '--config', $first->config], stop_seconds => 15,
        env  => { HEADGATE_HTTP_LISTEN => "127.0.0.1:$port" },
    );
    $t->wait_for_port($port, $process);
    return { name => $name, port => $port, process => $process };
}

# What each instance says that it owns: pid => [shards, lanes].
sub shares () {
    my %shares;
    for my $key ($redis->command('KEYS', 'headgate:status:sidecar:*')->@*) {
        my %status = $redis->command('HGETALL', $key)->@*;
        my ($pid) = $key =~ /:(\d+)\z/;
        $shares{$pid} = [@status{qw(shards lanes)}] if %status;
    }
    return \%shares;
}

sub spread ($column, $shares) {
    my @sorted = sort { $a <=> $b } map { $_->[$column] } values %$shares;
    return $sorted[-1] - $sorted[0];
}
sub sum ($column, $shares) {
    my $sum = 0;
    $sum += $_->[$column] for values %$shares;
    return $sum;
}
# By these and no others.
sub is_shared_by ($shares, @processes) {
    my $of = { map { $_->pid => $shares->{ $_->pid } // return 0 } @processes };
    return sum(0, $of) == 8 && sum(1, $of) == 256 && spread(0, $of) <= 1 && spread(1, $of) <= 1;
}

# ---- publishing, and what became of it --------------------------------------------------------

my %published;    # id => when
my $client = Headgate::Http->connect(port => $front->port);

sub publish ($count = 1) {
    for (1 .. $count) {
        my $answer = $client->request(
            'POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $first->api_key],
            body => Headgate::Edge::event_body(type => 'order.created'),
        );
        $t->die_with_logs('publishing: ' . $answer->status) if $answer->status != 201;
        $published{ $answer->json->{id} } = time;
    }
}
sub missing () {
    my $received = $receiver->received;
    my $count    = 0;
    for my $id (keys %published) {
        $count += grep { !$received->{"w$_ $id"} } 1 .. $WEBHOOKS;
    }
    return $count;
}
sub repeated () { scalar grep { @$_ > 1 } values $receiver->received->%* }
# The longest that any delivery waited, of events published since.
sub longest_wait ($since) {
    my $received = $receiver->received;
    my $longest  = 0;
    for my $id (grep { $published{$_} >= $since } keys %published) {
        for my $n (1 .. $WEBHOOKS) {
            my $waited = $received->{"w$n $id"}[0] - $published{$id};
            $longest = $waited if $waited > $longest;
        }
    }
    return $longest;
}
# Until the condition holds, with events all the while.
sub publish_until ($what, $condition, $seconds) {
    $t->wait_for($what, sub { publish(); $condition->() }, $seconds);
}

# ---- instances come ----------------------------------------------------------------------------

publish_until('the first to own everything', sub { is_shared_by(shares(), $first->process) }, 10);
my $second = another('second');
publish_until('two to share evenly', sub { is_shared_by(shares(), $first->process, $second->{process}) }, 20);
my $third = another('third');
publish_until('three to share evenly', sub { is_shared_by(shares(), $first->process, $second->{process}, $third->{process}) }, 20);
publish(20);
$t->wait_for('all deliveries', sub { !missing() }, 20);
is repeated(), 0, 'each delivery was made once while instances came' or diag explain shares();
for my $instance ($second, $third) {
    is(Headgate::Http->connect(port => $instance->{port})->request('GET', '/health')->status, 200, "the $instance->{name} is healthy with its share");
}

# ---- one ends cleanly --------------------------------------------------------------------------

publish(20);
$third->{process}->stop;
is $third->{process}->status, 0, 'the third ended cleanly';
publish_until('two to share evenly again', sub { is_shared_by(shares(), $first->process, $second->{process}) }, 6);
$t->wait_for('all deliveries', sub { !missing() }, 10);
is repeated(), 0, 'and each delivery was made once';

# ---- one is stopped, and comes back ------------------------------------------------------------

my $stopped_at = time;
$second->{process}->signal('STOP');
publish_until('the first to own everything, the other being stopped', sub { is_shared_by(shares(), $first->process) }, 16);
$t->wait_for('all deliveries', sub { !missing() }, 10);
my $waited = longest_wait($stopped_at);
cmp_ok $waited, '<=', 12.5, 'SIGSTOP of one costs at most 12 seconds';
diag sprintf 'SIGSTOP: the longest wait was %.1f s', $waited;
$second->{process}->signal('CONT');
publish_until('two to share evenly after SIGCONT', sub { is_shared_by(shares(), $first->process, $second->{process}) }, 20);

# ---- one is killed -----------------------------------------------------------------------------

publish(20);
my $killed_at = time;
$second->{process}->crash;
publish_until('the first to own everything, the other being dead', sub { is_shared_by(shares(), $first->process) }, 16);
$t->wait_for('all deliveries', sub { !missing() }, 10);
$waited = longest_wait($killed_at);
cmp_ok $waited, '<=', 12.5, 'SIGKILL of one costs at most 12 seconds';
diag sprintf 'SIGKILL: the longest wait was %.1f s, repeated deliveries %d of %d', $waited, repeated(), $WEBHOOKS * keys %published;

# ---- the account -------------------------------------------------------------------------------

my $events = keys %published;
$t->wait_for('everything to be recorded', sub { $postgres->sql("SELECT count(*) FROM deliveries WHERE state = 'success'") == $events * $WEBHOOKS }, 10);
is $postgres->sql('SELECT count(*) FROM events'), $events, 'each event is there once';
is $postgres->sql('SELECT count(*) FROM deliveries'), $events * $WEBHOOKS, 'with one delivery for each webhook';
is $postgres->sql(q{SELECT count(*) FROM (SELECT delivery_id FROM attempts WHERE outcome = 'success' GROUP BY delivery_id HAVING count(*) > 1) twice}), 0,
    'no late instance recorded what the new owner had recorded';
is $postgres->sql('SELECT count(*) FROM quarantine'), 0, 'nothing was broken';

$t->done;
