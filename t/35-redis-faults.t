# Whatever goes wrong between the edge and Redis: the request under way is answered 503 (or right), nothing is mixed up,
# and when it is over the next event is answered 201 and is in Redis.
use v5.36;
use Test::More;

use Headgate::Dns;
use Headgate::Edge;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis;
my $proxy = $t->proxy(to_port => $redis->port);
my $dns   = Headgate::Dns->start($t, address => '127.0.0.99');
# By name: nobody listens at the address that the name has at first.
my $edge = Headgate::Edge->start(
    $t, redis => $redis, redis_address => 'redis.headgate.invalid:' . $proxy->port, redis_options => 'timeout=600ms connect_timeout=600ms',
    http => 'resolver 127.0.0.1:' . $dns->port . ' ipv6=off; headgate_limit_on_error deny;', wait => 0,
    locations => 'location = /limited { headgate_auth jwt; headgate_limit plan; headgate_limit_mode exact; root ' . $t->dir('html') . '; try_files /page =404; }
        location = /fused { headgate_auth jwt; headgate_limit plan; headgate_limit_mode exact; headgate_publish event; add_header X-Event "$headgate_event_id,$headgate_shard" always; }',
);
$t->write_file('html/page', "page\n");
my $token = $edge->token(claims => { plan => 'unlimited' });

sub publish (%args) { $edge->publish(token => $token, %args) }
sub connects () { $edge->status->{redis}{connects} }
# The next event after it is over: answered 201, and there. Errors that a quiet moment hides show as a wrong id.
sub recovers ($name) {
    my $answer = $t->wait_for("$name: to be over", sub { my $a = publish(); $a->status == 201 ? $a : undef });
    ok $redis->event($answer->json->{id}), "$name: the next event is 201, and stored";
    is $edge->status->{published}{inflight_bytes}, 0, "$name: nothing is left in flight";
}

# -- names ------------------------------------------------------------------------------------------
is publish()->status, 503, 'the name leads to nobody: 503';
$dns->address('127.0.0.1');
recovers('the name leads elsewhere now');
# The one that reads revocations tries at times of its own, and counts among the connections.
$t->wait_for('its other connection', sub { connects() >= 2 });

# -- error replies and what is none -----------------------------------------------------------------
sub fault ($name, $bytes, $keeps, %args) {
    my $before = connects();
    my $count  = $redis->event_count;
    $proxy->command('answer ' . ($args{word} // 'XADD') . ' ' . unpack 'H*', $bytes);
    my $target = $args{target} // '/events';
    my $answer = $target eq '/limited' ? $edge->nginx->get($target, headers => [$edge->headers(token => $token)]) : publish(target => $target);
    is $answer->status, 503, "$name: 503";
    is $answer->header('Retry-After'), 1, "$name: with Retry-After";
    is $answer->header('X-Event'), ',', "$name: neither id nor shard is logged" if $target eq '/fused';
    is $redis->event_count, $count, "$name: nothing is stored";
    recovers($name);
    is connects() - $before, $keeps ? 0 : 1, $keeps ? "$name: the connection stays" : "$name: on another connection";
}
fault("-$_->[0]", "-$_->[0] injected by a test\r\n", $_->[1]) for (
    ['OOM', 1], ['NOPERM', 1], ['MOVED 1 127.0.0.1:1', 1], ['ASK 1 127.0.0.1:1', 1], ['CLUSTERDOWN', 1], ['TRYAGAIN', 1],
    ['ERR', 1], ['LOADING', 0], ['READONLY', 0], ['NOAUTH', 0], ['MASTERDOWN', 0], ['UNBLOCKED', 0],
);
fault($_->[0], $_->[1], 0) for (
    ['garbage', "HTTP/1.1 400 Bad Request\r\n\r\n"],
    ['half a reply', "\$15\r\n1700000"],
    ['a reply of another type and one to nothing', ":7\r\n+OK\r\n"],
    ['a reply that is too large', '$' . 3_000_000 . "\r\n" . 'x' x 1_100_000],
);
fault('no id', "*-1\r\n", 1);
fault("a limit: -$_->[0]", "-$_->[0] injected\r\n", $_->[1], word => 'EVALSHA', target => '/limited') for (['OOM', 1], ['READONLY', 0]);
fault("a limit with its event: -$_->[0]", "-$_->[0] injected\r\n", $_->[1], word => 'EVALSHA', target => '/fused') for (['OOM', 1], ['LOADING', 0]);
fault('a limit: another number of windows', "*2\r\n:1\r\n:0\r\n", 1, word => 'EVALSHA', target => '/limited');

# -- the connection ---------------------------------------------------------------------------------
$proxy->command('refuse');
is publish()->status, 503, 'refused: 503';
my ($before, $opened) = (connects(), $proxy->stats->{connections});
is_deeply [map { publish()->status } 1 .. 20], [(503) x 20], 'while it is refused every request is answered';
is connects() - $before, 0, 'and opens no connection of its own';
$proxy->command('pass');
recovers('refused');

$proxy->command('stall_replies');
is publish()->status, 503, 'no reply within timeout: 503';
$proxy->command('pass');
recovers('stalled');

$proxy->command('cut_replies 3');
is publish()->status, 503, 'cut in the middle of a reply: 503';
recovers('cut');

$proxy->command('cut_requests 40');
is publish()->status, 503, 'cut in the middle of a command: 503';
recovers('cut in a command');

$proxy->command('slice 1');
is publish()->status, 201, 'sliced byte by byte: 201';
$proxy->command('drop');
$proxy->command('slice 7');
recovers('a greeting in slices');
$proxy->command('pass');

# Everybody who waits is told, once each.
$proxy->command('stall_requests');
my @clients = map { my $client = $edge->nginx->connect; $client->send_bytes(Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(token => $token)], body => Headgate::Edge::event_body())); $client } 1 .. 20;
is_deeply [map { $_->read_response->status } @clients], [(503) x 20], 'everybody who waits is told';
$proxy->command('pass');
recovers('many at once');

# -- Redis itself -----------------------------------------------------------------------------------
my $count = $redis->event_count;
$redis->crash;
is publish()->status, 503, 'Redis is killed: 503';
$redis->restart;
recovers('a restart');
is $redis->event_count, $count + 1, 'what was there before is there';
$redis->command('SCRIPT', 'FLUSH');
my $fused = publish(target => '/fused');
is $fused->status, 201, 'a flushed script cache is not noticed';
like $fused->header('X-Event'), qr/\A@{[ $fused->json->{id} ]},[0-7]\z/, 'what is stored has an id and a shard';

# -- nginx leaves -----------------------------------------------------------------------------------
# With an answer still to come: it comes. Idle connections are no reason to stay (teardown looks for alerts).
$proxy->command('stall_replies');
my $last = $edge->nginx->connect;
$last->send_bytes(Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(token => $token)], body => Headgate::Edge::event_body()));
$t->wait_for('the event to be under way', sub { $edge->status->{published}{inflight_bytes} > 0 });
$edge->nginx->process->signal('QUIT');
$t->wait_for('the worker to know', sub { $edge->nginx->error_text =~ /gracefully shutting down/ });
$proxy->command('pass');
is $last->read_response->status, 201, 'a quitting worker finishes what is under way';
$t->wait_for('nginx to end', sub { !$edge->nginx->process->alive });

$t->done;
