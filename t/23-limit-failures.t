# Limits when Redis is away, slow or forgetful: what each headgate_limit_on_error does, and what becomes of requests that
# wait for a call of the limit script when it is lost, late, or its asker leaves.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::Test;

my $t = Headgate::Test->new;
$t->write_file('html/page', "page\n", 0644);
my $page  = 'root ' . $t->dir('html') . '; try_files /page =404;';
my $redis = $t->redis;
my $proxy = $t->proxy(to_port => $redis->port);
my $limit = 'headgate_limit rate=10r/d key=$arg_k name=l;';
my $edge  = Headgate::Edge->start(
    $t, redis => $redis, redis_address => '127.0.0.1:' . $proxy->port, redis_options => 'timeout=10s connect_timeout=2s',
    limit => 'headgate_limit plan;', events_location => undef,
    locations => join "\n",
    map { my ($mode, $action) = /(\w+)_(\w+)/; "location = /$_ { $limit headgate_limit_mode $mode; headgate_limit_on_error $action; $page }" }
        qw(exact_local exact_allow exact_deny lease_local lease_allow lease_deny),
);
my $nginx = $edge->nginx;
my $n = 0;
sub fresh { 'k' . ++$n }
sub get ($target) { $nginx->get($target) }
sub statuses ($target, $times) { join ' ', map { get($target)->status } 1 .. $times }
sub tally ($target, $times) {
    my %count;
    $count{ get($target)->status }++ for 1 .. $times;
    return \%count;
}
sub evalsha_calls { my ($calls) = $redis->command('INFO', 'commandstats') =~ /cmdstat_evalsha:calls=(\d+)/; return $calls // 0 }
sub ready { $edge->wait_until_ready }

# Clients whose requests all wait for the call of the first, while no reply comes.
sub stalled_clients ($count, $request) {
    my $calls = evalsha_calls();
    my $before = $edge->status->{requests}{total};
    $proxy->command('stall_replies');
    my @clients = map { $nginx->connect } 1 .. $count;
    for my $i (0 .. $#clients) {
        $clients[$i]->send_bytes($request);
        $t->wait_for('the first to ask', sub { evalsha_calls() > $calls }) if $i == 0;
    }
    $t->wait_for('all to wait', sub { $edge->status->{requests}{total} - $before >= $count });
    return @clients;
}

# -- the script cache is flushed ------------------------------------------------------------------------
for my $mode (qw(exact lease)) {
    my $k = fresh();
    $redis->command('SCRIPT', 'FLUSH');
    is statuses("/${mode}_deny?k=$k", 1), '200', "NOSCRIPT is healed: $mode";
    is get("/${mode}_deny?k=$k")->header('X-RateLimit-Remaining'), 8, 'and charged once';
}

# -- late replies ---------------------------------------------------------------------------------------
# What Redis grants later than a lease lives is not spent: it may have refilled by now.
$proxy->command('delay 70');    # each way
for my $case ([lease_deny => 503], [lease_allow => 200], [exact_deny => 200]) {
    my ($location, $status) = @$case;
    is get("/$location?k=" . fresh())->status, $status, "a reply after 140 ms: $location";
}
$t->wait_for('the log, which is written behind the answer', sub { scalar grep { /\|bypassed\|/ } $nginx->access_lines });
my $k = fresh();
is_deeply tally("/lease_local?k=$k", 12), { 200 => 9, 429 => 3 }, 'lease_local: this host limits by itself, from what Redis has charged';
$proxy->command('pass');

# -- many wait for one call -----------------------------------------------------------------------------
for my $leaver (0, 1) {
    my $k = fresh();
    my $calls = evalsha_calls();
    my @clients = stalled_clients(30, Headgate::Http->format_request('GET', "/lease_deny?k=$k"));
    is evalsha_calls() - $calls, 1, 'the others wait for the same call';
    (shift @clients)->reset if $leaver;
    $proxy->command('pass');
    my %counts;
    $counts{ $_->read_response->status }++ for @clients;
    my $passed = $counts{200};
    is $counts{200} + ($counts{429} // 0) + ($counts{503} // 0), scalar @clients, 'all are answered' . ($leaver ? ', though the asker left' : '');
    cmp_ok $passed, '<=', 10, 'and no more than the quota pass';
    cmp_ok $passed, '>=', 8, 'which is not wasted';
    cmp_ok evalsha_calls() - $calls, '<', 12, 'in a few calls';
}

# Where every reply is late, those who wait do not ask one after the other: the last would wait for all.
{
    my $k = fresh();
    my $calls = evalsha_calls();
    my $before = $edge->status->{requests}{total};
    $proxy->command('delay 300');
    my @clients = map { $nginx->connect } 1 .. 20;
    for my $i (0 .. $#clients) {
        $clients[$i]->send_bytes(Headgate::Http->format_request('GET', "/lease_allow?k=$k"));
        $t->wait_for('the first to ask', sub { $edge->status->{requests}{total} > $before }) if $i == 0;
    }
    is_deeply [map { $_->read_response->status } @clients], [(200) x 20], 'late replies: all are answered as without Redis';
    cmp_ok evalsha_calls() - $calls, '<=', 4, 'and most have not asked';
    $proxy->command('pass');
}

# -- a limit in the same call as the XADD ----------------------------------------------------------------
$redis->command('CONFIG', 'SET', 'slowlog-log-slower-than', 0);
$redis->command('CONFIG', 'SET', 'slowlog-max-len', 1000);
# What Redis was asked: how many limits alone, limits with an XADD (two keys), XADDs alone. Its log has what scripts do, too.
sub commands ($work) {
    $redis->command('SLOWLOG', 'RESET');
    $work->();
    my %count = (limit => 0, both => 0, event => 0);
    for my $words (map { $_->[3] } $redis->command('SLOWLOG', 'GET', 1000)->@*) {
        $count{ $words->[2] == 2 ? 'both' : 'limit' }++ if uc $words->[0] eq 'EVALSHA';
        $count{event}++ if uc $words->[0] eq 'XADD';
    }
    $count{event} -= $count{both};
    return \%count;
}
sub token_of ($name) { $edge->token(claims => { plan => 'free', sub => $name }) }
{
    $edge->publish(token => token_of('loads the script'));
    my $token = token_of('slow');
    is_deeply commands(sub { is $edge->publish(token => $token)->status, 201, 'an event under a lease' }), { limit => 0, both => 1, event => 0 }, 'limit and XADD are one call';
    my $more = commands(sub { $edge->publish(token => $token) for 1 .. 6 });
    ok $more->{event} > 0 && $more->{limit} == 0 && $more->{both} + $more->{event} == 6, 'then leases are spent: an XADD alone' or diag explain $more;
    my $poor = $edge->add_key(limits => '1r/d');
    is join(' ', map { $edge->publish(key => $poor)->status } 1 .. 3), '201 429 429', 'a refusal stores nothing';
    is_deeply commands(sub { is $edge->publish(token => token_of('bad'), body => '{')->status, 400, 'an invalid body' }), { limit => 1, both => 0, event => 0 }, 'is charged alone';
    is $redis->event_count, 9, 'what was answered 201 is stored';
}
# Others wait for the call that stores an event; it counts whether its client stays or not.
for my $leaver (0, 1) {
    my $token = token_of("waits$leaver");
    my $stored = $redis->event_count;
    my @clients = stalled_clients(10, Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(token => $token)], body => Headgate::Edge::event_body()));
    (shift @clients)->reset if $leaver;
    $proxy->command('pass');
    is_deeply [map { $_->read_response->status } @clients], [(201) x @clients], 'those who waited publish' . ($leaver ? ', though the asker left' : '');
    is $redis->event_count - $stored, 10, 'all events are stored';
}
# A late reply is no reason to say that an event was not stored.
$proxy->command('delay 70');
is $edge->publish(token => token_of('late'))->status, 201, 'a late reply, but stored';
$proxy->command('pass');

# -- Redis goes away in the middle of a call --------------------------------------------------------------
for my $location (qw(lease_local exact_local lease_deny exact_deny)) {
    my $k = fresh();
    $proxy->command('stall_replies');
    my $calls = evalsha_calls();
    my @clients = map { $nginx->connect } 1 .. 5;
    $_->send_bytes(Headgate::Http->format_request('GET', "/$location?k=$k")) for @clients;
    $t->wait_for('a call', sub { evalsha_calls() > $calls });
    $proxy->command('drop');
    my $expected = $location =~ /deny/ ? 503 : 200;
    is_deeply [map { $_->read_response->status } @clients], [($expected) x 5], "the connection breaks in a call: $location answers $expected";
    $proxy->command('pass');
    ready();
}

# -- Redis is away --------------------------------------------------------------------------------------
my $exact = fresh();
is statuses("/exact_local?k=$exact", 4), '200 200 200 200', 'four of ten are charged in Redis, none from a lease';
my $seen = fresh();
is statuses("/exact_local?k=$seen", 4), '200 200 200 200', 'four of ten are charged in Redis,';
is statuses("/lease_local?k=$seen", 1), '200', 'and one more that this host remembers';
$redis->crash;
$t->wait_for('the edge to notice', sub { $edge->status->{redis}{state} eq 'backoff' });
is_deeply tally("/lease_local?k=$seen", 10), { 200 => 5, 429 => 5 }, 'local goes on from there';
my $refused = get("/lease_local?k=$seen");
is $refused->header('X-RateLimit-Remaining'), 0, 'with the usual headers';
like $refused->header('Retry-After'), qr/\A\d+\z/, 'and Retry-After';
is_deeply tally("/exact_local?k=$exact", 10), { 200 => 6, 429 => 4 }, 'exact goes on from what it has seen, too';
is_deeply tally('/exact_local?k=' . fresh(), 12), { 200 => 10, 429 => 2 }, 'a key never seen has its burst';
is_deeply tally("/${_}_allow?k=" . fresh(), 12), { 200 => 12 }, "$_: allow" for qw(exact lease);
my $denied = get('/lease_deny?k=' . fresh());
is $denied->status, 503, 'deny';
like $denied->header('Retry-After'), qr/\A\d+\z/, 'with Retry-After';
$redis->restart;
ready();
# Redis does not know of what was admitted without it: local may add one burst for each host, and no more.
# What was held when it went is lost.
my $again = tally("/lease_local?k=$seen", 10)->{200};
ok $again >= 3 && $again <= 5, 'when it is back Redis decides again, from what it knows' or diag $again;
is_deeply tally("/lease_deny?k=$seen", 2), { 429 => 2 }, 'and nothing is admitted twice';

# What was admitted without it still counts when it goes again.
$redis->crash;
$t->wait_for('the edge to notice', sub { $edge->status->{redis}{state} eq 'backoff' });
is_deeply tally("/exact_local?k=$exact", 3), { 429 => 3 }, 'a second outage is no second burst';
$redis->restart;
ready();

# -- Redis loses its memory -------------------------------------------------------------------------------
$redis->command('DEL', "headgate:limit:{v:l:$seen}");
$t->wait_for('a refusal to be forgotten', sub { get("/lease_local?k=$seen")->status == 200 });
is_deeply tally("/lease_local?k=$seen", 11), { 200 => 9, 429 => 2 }, 'a loss of state adds one burst';

# -- nginx is stopped in the middle of a call -------------------------------------------------------------
# Whoever waits is answered before the worker takes itself apart; it asks for nothing any more.
{
    my $k = fresh();
    my @clients = stalled_clients(6, Headgate::Http->format_request('GET', "/lease_local?k=$k"));
    $nginx->process->signal('TERM');
    is_deeply [map { $_->read_response->status } @clients], [(200) x 6], 'a fast shutdown answers those who wait';
    ok $nginx->process->wait, 'and ends';
}

$t->done;
