# What the edge asks of a Redis before it trusts it with events: the contract and shard count it was
# made for, and a policy that evicts nothing. And what it mends by itself: a flushed script cache.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis;
my $proxy = $t->proxy(to_port => $redis->port);
my $edge  = Headgate::Edge->start(
    $t, redis => $redis, redis_address => '127.0.0.1:' . $proxy->port,
    redis_options => 'timeout=5s connect_timeout=5s',
    limit => 'headgate_limit plan; headgate_limit_mode exact;',
    locations => 'location = /guarded { headgate_auth api_key; headgate_limit plan; root ' . $t->dir('html') . '; try_files /page =404; }',
);
$t->write_file('html/page', "page\n");
$edge->nginx->expect_alarms(qr/nothing is published/);
my $key = $edge->add_key;

sub error_text ($pattern) {
    return $t->wait_for("the error log to say $pattern", sub { $edge->nginx->error_text =~ $pattern });
}

is $edge->publish(key => $key)->status, 201, 'a Redis of our contract has events';

# -- the script cache is flushed: nothing was charged, nothing was stored, and the request is served ---
for my $case (
    ['limit and XADD in one call', sub { $edge->publish(key => $key) }, 201],
    ['a limit alone', sub { $edge->nginx->request('GET', '/guarded', headers => ['X-API-Key' => $key]) }, 200],
    ['an invalid body, charged alone', sub { $edge->publish(key => $key, body => '{') }, 400],
) {
    my ($name, $send, $status) = @$case;
    my $before = $redis->event_count;
    $redis->command('SCRIPT', 'FLUSH');
    is $send->()->status, $status, "NOSCRIPT is healed: $name";
    is $redis->event_count - $before, $status == 201 ? 1 : 0, "$name: stored as often as it was answered 201";
}

# -- an eviction policy that would drop events ----------------------------------------------------
$redis->command('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
my $answer = $t->wait_for('publishing to be refused', sub { my $a = $edge->publish(key => $key); $a->status == 503 ? $a : undef });
is $answer->header('Retry-After'), 1, '503 with Retry-After where Redis would evict events';
error_text(qr/maxmemory-policy allkeys-lru would evict events; set it to noeviction/);
is $edge->nginx->request('GET', '/guarded', headers => ['X-API-Key' => $key])->status, 200, 'keys and limits still work';
$redis->command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
$t->wait_for('publishing to be allowed again', sub { $edge->publish(key => $key)->status == 201 });
pass 'and 201 again under noeviction';

# -- another contract, another number of shards ---------------------------------------------------
for my $case (['contract', 2, 1], ['shards', 16, 8]) {
    my ($field, $wrong, $right) = @$case;
    my $before = $redis->event_count;
    $redis->command('HSET', 'headgate:meta', $field => $wrong);
    $t->wait_for('publishing to be refused', sub { $edge->publish(key => $key)->status == 503 });
    error_text(qr/\[emerg\].*headgate:meta says contract \d+, shards \d+, this nginx contract 1, shards 8/);
    is $edge->nginx->request('GET', '/guarded', headers => ['X-API-Key' => $key])->status, 200, "$field: keys and limits still work";
    $redis->command('HSET', 'headgate:meta', $field => $right);
    $t->wait_for('publishing to be allowed again', sub { $edge->publish(key => $key)->status == 201 });
    pass "another $field: 503 until it is right again";
}

# -- events that wait for the first connection are not written to a Redis that must not have them ------
# They were queued before the greeting was answered, and once went out whatever it said.
$edge->nginx->process->stop;
$redis->command('HSET', 'headgate:meta', contract => 2);
$proxy->command('stall_replies');
$edge->nginx->launch;
my $token  = $edge->token(scope => 'events:write', plan => 'unlimited');
my $before = $redis->event_count;
my $early  = $edge->nginx->connect;
$early->send_bytes(Headgate::Http->format_request('POST', '/events', headers => [$edge->headers(token => $token)], body => Headgate::Edge::event_body()));
$t->wait_for('the request to wait', sub { $edge->status->{redis}{state} eq 'connecting' });
$proxy->command('pass');
is $early->read_response->status, 503, 'an event that waited for the greeting is refused with it';
is $redis->event_count, $before, 'and was not written';

$t->done;
