# Ordering keys with endpoints that fail: under each policy a key's events arrive one after the other in the order in which
# they were published, a head that fails holds back what the policy says and nothing else, and an unordered replay passes it.
use v5.36;
use Test::More;

use Headgate::Credentials qw(json);
use Headgate::Edge;
use Headgate::Http;
use Headgate::Test;

my $KEYS  = 6;
my $EACH  = 8;    # events of a key
my @NAMES = map { "k$_" } 1 .. $KEYS;

my $t     = Headgate::Test->new;
my $redis = $t->redis;
my $h     = $t->sidecar(redis => $redis);

# One process that holds each request for a moment, so that two of a key at a time would meet, and writes down begin and
# end of each: "<path> <key> <n> begin|<status>". It fails what is named in its file of failures: "<path> <key> <n>".
my $port     = $t->port;
my $log      = $t->path('received');
my $failures = $t->path('failures');
my $program  = $t->write_file('receiver.pl', <<'PERL');
use v5.36;
use IO::Select;
use IO::Socket::INET;
use Time::HiRes qw(time);
my ($port, $log, $failures) = @ARGV;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 256, ReuseAddr => 1) or die "listen: $@";
open my $out, '>>', $log or die;
$out->autoflush(1);
my $select = IO::Select->new($listener);
my (%bytes, @held);
while (1) {
    for my $socket ($select->can_read(0.002)) {
        if ($socket == $listener) { $select->add(scalar $listener->accept); next }
        my $count = sysread $socket, $bytes{$socket}, 65536, length($bytes{$socket} // '');
        if (!$count) { $select->remove($socket); delete $bytes{$socket}; close $socket; next }
        while ($bytes{$socket} =~ m{\A(POST /(\S+) .*?\r\n\r\n)}s) {
            my ($head, $path) = ($1, $2);
            my ($length) = $head =~ /^content-length: (\d+)/mi;
            last if length($bytes{$socket}) < length($head) + $length;
            my $request = substr $bytes{$socket}, 0, length($head) + $length, '';
            my ($key) = $request =~ /"key":"(\w+)"/;
            my ($n)   = $request =~ /"n":(\d+)/;
            print {$out} "$path $key $n begin\n";
            push @held, [time + 0.004, $socket, "$path $key $n"];
        }
    }
    while (@held && $held[0][0] <= time) {
        my (undef, $socket, $what) = shift(@held)->@*;
        open my $file, '<', $failures;
        my $status = grep({ $_ eq "$what\n" } <$file>) ? 503 : 200;
        print {$out} "$what $status\n";
        syswrite $socket, "HTTP/1.1 $status Answer\r\nContent-Length: 0\r\n\r\n";
    }
}
PERL
# What of each path fails from here on.
my %fails;
sub break_at ($path, @events) {
    $fails{$path} = \@events;
    $t->write_file('failures.next', join '', map { my $p = $_; map { "$p $_\n" } $fails{$p}->@* } keys %fails);
    rename "$failures.next", $failures or die "rename: $!";
}
break_at('none');
my $receiver = $t->start(name => 'receiver', command => [$^X, $program, $port, $log, $failures]);
$t->wait_for_port($port, $receiver);

# The lines of a path, as [key, n, begin or status], in order.
sub received ($path) {
    open my $file, '<', $log or return ();
    return map { my (undef, @words) = split; \@words } grep { /\A\Q$path\E .*\n\z/ } <$file>;
}
sub of_key ($path, $key) { grep { $_->[0] eq $key } received($path) }
# The numbers of a key's events in the order in which they were first answered 200.
sub succeeded ($path, $key) {
    my %seen;
    return grep { !$seen{$_}++ } map { $_->[1] } grep { $_->[2] eq '200' } of_key($path, $key);
}
sub overlaps ($path) {
    my (%open, $count);
    for my $line (received($path)) {
        if ($line->[2] ne 'begin') { $open{ $line->[0] }--; next }
        $count++ if $open{ $line->[0] }++;
    }
    return $count // 0;
}

$h->serve->wait_until_healthy;
my $front  = $h->front;
my $client = Headgate::Http->connect(port => $front->port);
sub call ($method, $target, $body = undef) {
    my @headers = ('X-API-Key' => $h->api_key);
    push @headers, 'Content-Type' => 'application/json' if defined $body;
    my $answer = Headgate::Http->connect(port => $h->port)->request($method, $target, headers => \@headers, defined $body ? (body => $body) : ());
    $t->die_with_logs("$method $target: " . $answer->status . ' ' . $answer->body) if $answer->status >= 300;
    return $answer->json->{data};
}
sub webhook ($path, %members) {
    return call('POST', '/api/webhooks', json({ url => "http://127.0.0.1:$port/$path", events => ["$path.*"], ordering => 'key', ordering_policy => $path, %members }))->{webhook}{id};
}
my %id;    # event by "<path> <key> <n>"
sub publish ($path, $key, $n) {
    my $answer = $client->request(
        'POST', '/events', headers => ['Content-Type' => 'application/json', 'X-API-Key' => $h->api_key],
        body => Headgate::Edge::event_body(type => "$path.made", payload => { n => $n, key => $key }, $key eq 'free' ? () : (ordering_key => $key)),
    );
    $t->die_with_logs('publishing: ' . $answer->status) if $answer->status != 201;
    $id{"$path $key $n"} = $answer->json->{id};
}
# That of the event itself, not of a replay.
sub delivery ($webhook, $event) { (grep { $_->{kind} eq 'event' } call('GET', "/api/deliveries?webhook_id=$webhook&event_id=$id{$event}")->{deliveries}->@*)[0] }
sub states ($webhook) { +{ map { $_->{state} => $_->{n} } $h->sql("SELECT state, count(*) AS n FROM deliveries WHERE webhook_id = '$webhook' AND kind = 'event' GROUP BY state") } }

my %webhook = (
    dead  => webhook('dead', retry_config => { schedule => [1] , max_retries => 2 }),
    skip  => webhook('skip', retry_config => { schedule => [2500], max_retries => 3 }),
    block => webhook('block', retry_config => { schedule => [1], max_retries => 1 }),
);
# In each of them the second event of k1 fails, and in `block` the first of k2.
break_at($_ => 'k1 2') for qw(dead skip);
break_at(block => 'k1 2', 'k2 1');
for my $n (1 .. $EACH) {
    for my $path (sort keys %webhook) { publish($path, $_, $n) for @NAMES }
}
publish($_, 'free', 1) for sort keys %webhook;
my $ALL = $KEYS * $EACH + 1;

# ---- dead: the rest waits until the head is dead --------------------------------------------------

$t->wait_for('all of `dead`', sub { my $s = states($webhook{dead}); ($s->{dead} // 0) == 1 && ($s->{success} // 0) == $ALL - 1 });
is_deeply [succeeded('dead', $_)], [1 .. $EACH], "dead: $_ arrived in order" for @NAMES[1 .. $#NAMES];
is_deeply [succeeded('dead', 'k1')], [1, 3 .. $EACH], 'dead: k1 without the one that is dead';
is_deeply [map { "$_->[1] $_->[2]" } (of_key('dead', 'k1'))[0 .. 8]],
    ['1 begin', '1 200', ('2 begin', '2 503') x 3, '3 begin'], 'dead: nothing of k1 came between its attempts';
is overlaps('dead'), 0, 'dead: never two of a key at a time';

# ---- skip: the rest goes on after the head's first failure ------------------------------------------

$t->wait_for('the others of `skip`', sub { (states($webhook{skip})->{success} // 0) == $ALL - 1 });
is_deeply [succeeded('skip', 'k1')], [1, 3 .. $EACH], 'skip: k1 went on';
is_deeply [map { "$_->[1] $_->[2]" } (of_key('skip', 'k1'))[0 .. 4]], ['1 begin', '1 200', '2 begin', '2 503', '3 begin'], 'skip: after one failure';
break_at('skip');
$t->wait_for('the one that was skipped', sub { (states($webhook{skip})->{success} // 0) == $ALL });
is_deeply [succeeded('skip', 'k1')], [1, 3 .. $EACH, 2], 'skip: it comes last, and is not lost';
is_deeply [succeeded('skip', $_)], [1 .. $EACH], "skip: $_ arrived in order" for @NAMES[1 .. $#NAMES];

# ---- block: until somebody acts ---------------------------------------------------------------------

my $BLOCKED = $EACH - 2 + $EACH - 1;
$t->wait_for('the others of `block`', sub { my $s = states($webhook{block}); ($s->{dead} // 0) == 2 && ($s->{success} // 0) == $ALL - 2 - $BLOCKED });
is_deeply states($webhook{block}), { dead => 2, blocked => $BLOCKED, success => $ALL - 2 - $BLOCKED }, 'block: what is behind a dead head waits';
is_deeply [map { [succeeded('block', $_)] } @NAMES], [[1], [], map { [1 .. $EACH] } 3 .. $KEYS], 'block: the other keys go on';
publish('block', 'k2', $EACH + 1);
$t->wait_for('the newest of k2 to wait', sub { (states($webhook{block})->{blocked} // 0) == $BLOCKED + 1 });
# What waits for another cannot be retried; a retry of the head that fails again lets nobody go.
my $behind = delivery($webhook{block}, 'block k2 2')->{id};
is(Headgate::Http->connect(port => $h->port)->request('POST', "/api/deliveries/$behind/retry", headers => ['X-API-Key' => $h->api_key], body => '')->status, 409, 'block: one behind the head cannot be retried');
my $head = delivery($webhook{block}, 'block k2 1')->{id};
call('POST', "/api/deliveries/$head/retry", '{}');
$t->wait_for('the retry to fail', sub { my $d = delivery($webhook{block}, 'block k2 1'); $d->{state} eq 'dead' && $d->{attempts} == 3 });
is_deeply [succeeded('block', 'k2')], [], 'block: a retry that fails lets nobody go';

# A replay is not ordered: it passes what is blocked, and lets nothing go.
my $replay = call('POST', "/api/webhooks/$webhook{block}/replay", json({ since => '2020-01-01T00:00:00Z', which => 'all' }))->{replay};
$t->wait_for('the replay to end', sub {
    my $now = call('GET', "/api/replays/$replay->{id}")->{replay};
    return $now->{state} eq 'done' && $now->{succeeded} + $now->{failed} == $now->{total} && $now->{total};
}, 30);
is_deeply [sort { $a <=> $b } succeeded('block', 'k2')], [2 .. $EACH + 1], 'a replay passes the blocked head';
is_deeply [states($webhook{block})->@{qw(dead blocked)}], [2, $BLOCKED + 1], '... and what is blocked stays so';

my $before = received('block');
break_at('block');
call('POST', "/api/deliveries/$head/retry", '{}');
my $other = delivery($webhook{block}, 'block k1 2')->{id};
is call('POST', "/api/deliveries/$other/cancel", '{}')->{delivery}{state}, 'cancelled', 'the head of k1 is given up';
$t->wait_for('all of `block`', sub { my $s = states($webhook{block}); !$s->{blocked} && !$s->{dead} && ($s->{success} // 0) == $ALL });
my @after = (received('block'))[$before .. received('block') - 1];
my %later;
push $later{ $_->[0] }->@*, $_->[1] for grep { $_->[2] eq '200' } @after;
is_deeply \%later, { k1 => [3 .. $EACH], k2 => [1 .. $EACH + 1] }, 'both keys go on, each in order';

# ---- a restart in the middle, with a head in flight ----------------------------------------------------

break_at(dead => map { my $key = $_; "$key 101" } @NAMES);
publish('dead', $_, 101) for @NAMES;
$t->wait_for('heads to fail', sub { grep { $_->[1] == 101 } received('dead') });
for my $n (102 .. 105) { publish('dead', $_, $n) for @NAMES }
$h->crash;
break_at('dead');
$h->serve;
$t->wait_for('everything after the crash', sub { my $s = states($webhook{dead}); !grep { $s->{$_} } qw(queued retrying in_flight blocked) }, 30);
for my $key (@NAMES) {
    is_deeply [grep { $_ > 101 } succeeded('dead', $key)], [102 .. 105], "after a SIGKILL $key goes on in order";
}
is $h->sql_value("SELECT count(*) FROM deliveries WHERE holds_order = 1 AND state NOT IN ('success', 'cancelled', 'dead')"), 0, 'no head is left behind';

$t->done;
